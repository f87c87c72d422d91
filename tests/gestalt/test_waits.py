"""Operations of a training step that would make the host wait for a device, counted on the CPU as
they are called.
"""

from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.gpu.models import experiment
from tests.gpu.synchronisations import counted
from tests.gpu.training import train

STEPS, EVERY = 6, 4
LOGGED = 11
"""Metrics of a step that is logged, each of which Lightning reads for the logger."""


class CountSteps(Callback):
    """Counts from the end of one step to the end of the next; the first is left out, in which the
    optimiser makes its state.
    """

    def __init__(self) -> None:
        self.steps: list[Counter[str]] = []
        self._open: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the count of this step and open that of the next."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        if trainer.global_step < STEPS:
            self._open = counted(torch.device("cpu"))
            self.steps.append(self._open.__enter__())


def test_only_a_step_that_is_logged_waits_for_the_device() -> None:
    count = CountSteps()
    config = experiment(f"trainer.log_every_n_steps={EVERY}")
    train(config, accelerator="cpu", steps=STEPS, side=64, callbacks=(count,))
    # of steps 1 to 5; what step 3 logs is read after this callback; 5 is the last
    waits = [sum(places.values()) for places in count.steps]
    # the first bad step and the loss are read; six numbers of the host are copied, by Lightning
    ours = 2 + 6
    assert waits == [0, 0, ours, LOGGED, ours], count.steps
