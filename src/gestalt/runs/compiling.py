"""Compile a training step by ``trainer.compile``, in place: names of weights, and so checkpoints,
are unchanged.
"""

from typing import Any

from gestalt.module import ContrastiveModule
from gestalt.support.keys import refuse
from gestalt.training.keys import Trainer
from gestalt.training.machine import on_cuda
from gestalt.training.micro_batches import batch_statistics

SHAPES = 64
"""Most compiled versions of one function, one for each padded length of captions; above its limit,
8 by default, torch runs uncompiled.
"""


def check_compiler(trainer: Trainer) -> None:
    """Check that this machine can compile for the device of training, before a run's folder is
    made.

    Raises:
        ConfigError: names what is missing and what to choose.
    """
    if trainer.compile == "none":
        return
    why = ""
    if not on_cuda(trainer):
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            why = "torch has no C++ compiler on this machine; install g++, set CXX"
    else:
        from torch.utils._triton import has_triton

        if not has_triton():
            why = "torch has no Triton for this machine's GPU; install triton"
    if why:
        refuse("trainer.compile", trainer.compile, f"{why}, or choose none")


def compile_training(module: ContrastiveModule, how: str, *, backend: str = "inductor") -> None:
    """Compile the towers, or the forward pass of a step with its loss, for static shapes; "none"
    compiles nothing.

    Tokenisation is not compiled.

    Args:
        module: the run's module; its batches have fixed shapes, except for the padded length of
            captions, which takes few values.
        how: "none", "towers" or "step".
        backend: backend of ``torch.compile``.
    """
    if how == "none":
        return
    # with batch statistics, the black images of bad pairs would count
    module.static_shapes = not batch_statistics(module.model)
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    options: dict[str, Any] = {"dynamic": False, "backend": backend}
    model = module.model
    if how == "towers":
        text = model.text_tower
        for part in (model.image_tower, *(text.compiled_parts or text.children())):
            part.compile(**options)
        return
    model.text_tower.pad = torch.compiler.disable(model.text_tower.pad)  # type: ignore[method-assign, no-untyped-call]
    model.compile(**options)
    module.loss = torch.compile(module.loss, **options)
