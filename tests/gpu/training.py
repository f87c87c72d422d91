"""A few training steps of the real module under a real trainer, on batches in memory.  B batch, H W
pixels.
"""

import warnings
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from gestalt.config.schema import Experiment
from gestalt.model import DualEncoder
from gestalt.models.start import build_model
from gestalt.module import ContrastiveModule
from gestalt.runs.process import quiet
from gestalt.runs.training import build_bad_samples
from gestalt.training.progress import Speed
from tests.gestalt.at_step import QUIET, build_module
from tests.gpu.models import batch

LOSS = "train/loss"


class Losses(Logger):
    """Keeps the loss of every step."""

    name, version = "losses", 0

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep the loss."""
        if LOSS in metrics:
            self.values.append(metrics[LOSS])

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """None are kept."""


def train(
    config: Experiment,
    *,
    steps: int,
    side: int,
    callbacks: tuple[Callback, ...] = (),
    model: DualEncoder | None = None,
    **device: Any,
) -> tuple[ContrastiveModule, list[float]]:
    """Train a model, by default from fresh weights, with the callbacks that every run has at its
    steps, on a device as a Trainer is given it.  Returns the module and the loss of each step.
    """
    quiet()
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
    module = build_module(config, model or build_model(config), total_steps=steps)
    batches = [batch(config.data.batch_size, side=side, seed=number) for number in range(steps)]
    losses = Losses()
    trainer = Trainer(
        **{**QUIET, **device, "logger": losses},
        precision=config.trainer.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.trainer.gradient_clip_val,
        max_steps=steps,
        log_every_n_steps=config.trainer.log_every_n_steps,
        callbacks=[build_bad_samples(config.data), Speed(), *callbacks],
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return module, losses.values
