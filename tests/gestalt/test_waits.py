"""A training step on a device that is not the host's: tensors of two devices never meet, and the
host waits for it only where numbers are logged.
"""

from collections import Counter

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch import Callback
from torch import nn

from gestalt.losses.noun_list import NounList
from gestalt.models.start import build_model
from gestalt.support.devices import send
from gestalt.tables import AGGREGATIONS, LOSSES, TERMS
from gestalt.training.keys import Optimizer, timm_optimizers
from gestalt.training.schedule import make_optimizer
from tests.gestalt.at_step import alone, build_module
from tests.gestalt.encoders.tiny_text import save_bert, save_t5
from tests.gestalt.tiny_config import tiny_config
from tests.gpu.models import batch, experiment
from tests.gpu.stand_in import DEVICE, on_the_device, pretended_gpu
from tests.gpu.training import train

STEPS, EVERY = 6, 4
LOGGED = 9
"""Metrics of a step that is logged, each of which Lightning reads for the logger."""

READ_BY_TIMM = {"sgdp", "csgdp", "adamp", "cadamp", "novograd", "novogradw", "novogradc"}
"""Optimisers whose code in timm reads a number in each step; Kron's is compiled, which cannot be
followed.
"""

NOUNS = NounList(("dog", "cat", "boat", "moon"), similar=torch.eye(4, dtype=torch.bool))


class CountWaits(Callback):
    """Counts the waits from the end of each step to the end of the next.

    Attributes:
        steps: by the place in the code, of each step from the second on.
    """

    def __init__(self, waits: Counter[str]) -> None:
        self.waits = waits
        self.steps: list[Counter[str]] = []

    def on_train_batch_end(self, trainer, *args):
        """Keep the count, and begin again; the first step makes the optimiser's state."""
        if trainer.global_step > 1:
            self.steps.append(Counter(self.waits))
        self.waits.clear()


WAITS = {
    "a number": (lambda values: values.sum().item(), 1),
    "a branch": (lambda values: bool(values[0] > 0), 1),
    "a list": (lambda values: values.tolist(), 1),
    "a copy to the host": (lambda values: values.cpu(), 1),
    "a copy from the host": (lambda values: torch.zeros(3).to(values.device), 1),
    "a tensor of a list": (lambda values: torch.tensor([1.0], device=values.device), 1),
    "a mask": (lambda values: values[values > 1], 1),
    "bins": (lambda values: values.long().bincount(), 2),
    "a number of the host": (lambda values: values.add_(1).fill_(2) * 2, 0),
    "a copy without waiting": (lambda values: send(torch.zeros(3), values.device), 0),
}


@pytest.mark.parametrize("what", WAITS)
def test_the_stand_in_counts(what):
    function, expected = WAITS[what]
    with pretended_gpu() as waits:
        values = torch.arange(3.0, device="cuda")
        function(values)
        assert waits.total() == expected, waits
        with pytest.raises(RuntimeError, match="at least two devices"):
            values + torch.ones(3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("save", [None, save_bert, save_t5])
def test_only_a_step_that_is_logged_waits_for_the_device(tmp_path, save, precision):
    words = [f"trainer.log_every_n_steps={EVERY}", "image.init=random", "text.max_length=16"]
    words += [f"trainer.precision={precision}"]
    config = experiment(*words)
    if save:
        words += [f"text.model={save(tmp_path)}"]
        config = tiny_config(*words)
    model = build_model(config)
    with pretended_gpu() as waits:
        count = CountWaits(waits)
        train(config, model=model, steps=STEPS, side=64, callbacks=(count,), **on_the_device())
    # of steps 1 to 5; what step 3 logs is read after this callback; 5 is the last
    waited = [places.total() for places in count.steps]
    # the first bad step and the loss are read; four numbers of the host are copied, by Lightning
    ours = 2 + 4
    assert waited == [0, 0, ours, LOGGED, ours], count.steps


CNN = [
    f"image.{key}"
    for key in (
        "family=cnn",
        "keep_tokens=1",
        "patch_size=null",
        "width=null",
        "depth=null",
        "heads=null",
    )
]
TEXTS = [name for name in AGGREGATIONS if not AGGREGATIONS.row(name).images_only]
ROWS = [
    *([f"loss.name={name}"] for name in LOSSES),
    *([f"loss.terms.{name}=0.5"] for name in TERMS),
    *([f"image.aggregation={name}"] for name in AGGREGATIONS),
    *([f"text.aggregation={name}"] for name in TEXTS),
    ["loss.terms.nouns=0.5", "image.aggregation=cls_and_max"],
    *([f"projection.order={name}"] for name in ("after", "text", "text_mlp", "blocks", "glu")),
    ["image.backbone=resnet10t", *CNN],
    ["image.gradient_checkpointing=true"],
    ["trainer.accumulate_grad_batches=2"],
    ["loss.chunk=4"],
    ["optimizer.layer_decay=0.8"],
]


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("words", ROWS)
def test_a_step_does_not_wait_for_the_device(words, bad):
    config = experiment(*words)
    module = alone(build_module(config, build_model(config), 100, NOUNS))
    with pretended_gpu() as waits:
        module.to(DEVICE)
        optimizer = module.make_optimizer(module.model, module.terms)
        for number in range(2):
            rows = batch(8, side=64, seed=number)
            rows["nouns"] = NOUNS.mark(rows["text"])
            if bad:
                rows["valid"][0] = False
                rows |= {"place": ["a place", *rows["place"][1:]], "valid_count": 7}
            rows = move_data_to_device(rows, DEVICE)
            waits.clear()
            loss = module.training_step(rows, number)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert not waits
        assert loss.isfinite()


@pytest.mark.parametrize("name", [name for name in timm_optimizers() if "kron" not in name])
def test_only_optimisers_of_timm_that_read_numbers_wait_for_the_device(name):
    blocks = nn.ModuleDict({str(number): nn.Linear(4, 4) for number in range(3)})
    model = nn.ModuleDict({"image": nn.ModuleDict({"blocks": blocks})})
    with pretended_gpu() as waits:
        model.to(DEVICE)
        optimizer = make_optimizer(model, nn.ModuleDict(), keys=Optimizer(name=name))
        for _ in range(2):
            waits.clear()
            for weight in model.parameters():
                weight.grad = torch.ones_like(weight)
            optimizer.step()
    assert bool(waits) == (name in READ_BY_TIMM), waits
