"""A compiled step: the same losses and names of weights as an eager one, and an eager
validation.
"""

from typing import Any

import pytest
import torch
from torch import nn

from gestalt.encoders.image import ImageTower
from gestalt.models.start import build_model
from gestalt.module import ContrastiveModule
from gestalt.runs.run import check_compiler, compile_training
from gestalt.support.typed import ConfigError
from gestalt.training.trainer import EagerValidation
from tests.gestalt.at_step import alone, build_module
from tests.gestalt.tiny_config import tiny_config
from tests.gpu.models import batch, experiment

STEPS, SIDE = 3, 64


def built(how: str, **options: Any) -> ContrastiveModule:
    config = experiment(f"trainer.compile={how}")
    module = alone(build_module(config, build_model(config), total_steps=STEPS))
    compile_training(module, config.trainer.compile, **options)
    return module


def losses(module: ContrastiveModule) -> list[float]:
    """The loss of each step, of captions of two lengths."""
    optimizer, values = module.make_optimizer(module.model, module.terms), []
    for number in range(STEPS):
        pairs = batch(4, side=SIDE, seed=number)
        pairs["text"] = [text + " and" * 9 * (number % 2) for text in pairs["text"]]
        loss = module.training_step(pairs, number)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        values.append(loss.item())
    return values


def test_each_tower_is_compiled_for_static_shapes(monkeypatch):
    compiled: list[tuple[nn.Module, bool]] = []
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: compiled.append((self, options["dynamic"]))
    )
    model = built("towers").model
    assert [part for part, _ in compiled] == [model.image_tower, *model.text_tower.compiled_parts]
    assert isinstance(compiled[0][0], ImageTower)
    assert {dynamic for _, dynamic in compiled} == {False}


def test_a_machine_without_a_compiler_is_refused_in_one_line(monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    config = tiny_config("trainer.compile=towers")
    with pytest.raises(
        ConfigError,
        match=(
            r"^trainer\.compile=towers: torch has no C\+\+ compiler on this machine; install g\+\+"
        ),
    ):
        check_compiler(config.trainer)
    check_compiler(tiny_config().trainer)


def test_validation_is_not_compiled():
    runs: list[str] = []

    def recording(graph: Any, inputs: Any) -> Any:
        return lambda *arguments: (runs.append("compiled"), graph(*arguments))[1]

    class Doubled(nn.Module):
        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return 2 * numbers

    layer, callback = Doubled(), EagerValidation()
    layer.compile(backend=recording)
    start, end, failed = (
        callback.on_validation_start,
        callback.on_validation_end,
        callback.on_exception,
    )
    for switch in (None, start, end, start, failed):
        if switch is not None:
            switch(None, None)  # type: ignore[arg-type]
        layer(torch.ones(2))
        runs.append("pass")
    assert runs == ["compiled", "pass", "pass", "compiled", "pass", "pass", "compiled", "pass"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
@pytest.mark.parametrize("how", ["towers", "step"])
def test_compiling_changes_neither_losses_nor_weight_names(how):
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("torch compiles for the CPU by a C++ compiler, and this machine has none")
    eager, compiled = built("none"), built(how)
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)
    assert list(compiled.state_dict()) == list(eager.state_dict())
