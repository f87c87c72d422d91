"""Build the parts of a training run, for any Lightning ``Trainer``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging

from gestalt.config.schema import Experiment
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.losses.build import list_nouns
from gestalt.losses.noun_list import NounList
from gestalt.models.start import build_model, check_names
from gestalt.runs.evaluation import build_evaluation
from gestalt.runs.features import connect_loader
from gestalt.runs.module import ContrastiveModule
from gestalt.runs.source import build_source, steps
from gestalt.runs.training import (
    build_bad_samples,
    build_data,
    check_deterministic,
    module_arguments,
)
from gestalt.support.arguments import check_type, wrong_type
from gestalt.support.keys import refuse
from gestalt.training.bad_samples import BadSamples
from gestalt.training.classes import build_callbacks
from gestalt.training.keys import Optimizer, Trainer
from gestalt.training.micro_batches import batch_statistics
from gestalt.training.trainer import EagerValidation, keywords_of, on_cuda


@dataclass(frozen=True)
class Run:
    """The parts of a training run.

    ``Trainer(**run.trainer).fit(run.module, run.data)`` trains and scores the run, with the same
    weights as ``gestalt train``, on any number of ranks.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> run = gestalt.build(experiment)
        >>> trainer = Trainer(**run.trainer | {"logger": False})

    Attributes:
        config: configuration of the run.
        module: the model with its loss, optimiser and schedule.
        data: the training pairs, and the image sets of the benchmarks for validation.
        total_steps: number of steps of the run and of the learning-rate schedule.  A Trainer with
            another number of steps stretches the schedule to this number.
        steps_per_epoch: number of steps in an epoch.
        scorers: the callbacks that score the benchmarks.
        bad_samples: the callback that counts unreadable samples.
        nouns: nouns of the captions, if an auxiliary loss reads them.
    """

    config: Experiment
    module: ContrastiveModule
    data: ImageTextDataModule
    total_steps: int
    steps_per_epoch: int
    scorers: list[Callback] = field(repr=False)
    bad_samples: BadSamples = field(repr=False)
    nouns: NounList | None = field(default=None, repr=False)

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks that the run needs: weight averaging if ``optimizer.ema`` is set, the
        scorers, the count of bad samples, and the callbacks of ``trainer.callbacks``.
        """
        trainer = self.config.trainer
        eager = [] if trainer.compile == "none" else [EagerValidation()]
        further = build_callbacks(trainer.callbacks)
        return [
            *averaging(self.config.optimizer),
            *self.scorers,
            self.bad_samples,
            *eager,
            *further,
        ]

    @property
    def trainer(self) -> dict[str, Any]:
        """The arguments of Lightning's ``Trainer`` that define the run: its end, precision,
        clipping, validations, devices and callbacks.  ``gestalt train`` passes the same arguments.
        """
        # The run ends after a number of steps, because Lightning counts an epoch that max_time cut
        # short as a whole epoch.
        ends = {"max_epochs": -1, "max_steps": self.total_steps}
        return keywords_of(self.config.trainer) | ends | {"callbacks": self.callbacks}


def averaging(optimizer: Optimizer) -> list[Callback]:
    """Return the callback that averages the weights of a run; an empty list unless
    ``optimizer.ema`` is set.
    """
    decay = optimizer.ema
    return [] if decay is None else [EMAWeightAveraging(decay=decay)]


def build(
    experiment: Experiment,
    *,
    module: type[ContrastiveModule] = ContrastiveModule,
    resumed: Path | None = None,
) -> Run:
    """Build the parts of a training run.

    Args:
        experiment: configuration of the run, from ``gestalt.experiment``.
        module: a subclass of ``ContrastiveModule``, for a custom training step.
        resumed: checkpoint that the Trainer will restore.  The weights of ``start`` are then not
            read.

    Raises:
        ValueError: the configuration cannot run, or files are missing or damaged.

    Example:
        >>> run = gestalt.build(experiment)
        >>> run.total_steps, len(run.module.configure_optimizers())
        (8, 2)
    """
    if not hasattr(experiment, "image"):
        raise wrong_type("experiment", experiment, "what gestalt.experiment(NAME) returns")
    check_type("module", module, Callable, "a subclass of gestalt.ContrastiveModule")
    check_names(experiment)
    check_compiler(experiment.trainer)
    check_deterministic(experiment)
    source = build_source(experiment)
    steps_per_epoch, total_steps = steps(experiment, len(source))
    validation, scorers = build_evaluation(experiment)
    data = build_data(experiment, source, validation)
    nouns = list_nouns(experiment.loss, source)
    model = build_model(experiment, resumed)
    connect_loader(experiment, model, data, nouns)
    built = module(**module_arguments(experiment, model, total_steps, nouns))
    compile_training(built, experiment.trainer.compile)
    return Run(
        experiment,
        built,
        data,
        total_steps,
        steps_per_epoch,
        scorers,
        build_bad_samples(experiment.data, samples=len(source)),
        nouns,
    )


SHAPES = 64
"""Maximum number of compiled versions of one function.  There is one version for each padded length
of captions.  Above the limit, which is 8 by default, torch runs uncompiled.
"""


def check_compiler(trainer: Trainer) -> None:
    """Check that this machine can compile for the training device, before the folder of the run is
    created.

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
    """Compile the towers, or the forward pass of a step with its loss, for static shapes.

    Tokenisation is not compiled.

    Args:
        module: the run's module; its batches have fixed shapes, except for the padded length of
            captions, which takes few values.
        how: "towers", "step", or "none" to compile nothing.
        backend: backend of ``torch.compile``.
    """
    if how == "none":
        return
    # With batch statistics, the black images of bad pairs would count.
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
