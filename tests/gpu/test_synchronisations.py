"""Operations of a training step that make the host wait for the device."""

from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.gpu.models import experiment
from tests.gpu.synchronisations import counted
from tests.gpu.training import train

A_STEP = 2
"""Largest number of waits in a step that is not logged; the operations that are called on the CPU
are none of these.
"""

WARM_UP, STEPS = 2, 3


class Count(Callback):
    """Counts from the end of the warm-up to the end of the last step, copies of the batch and
    logging included.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.places: Counter[str] = Counter()
        self._open: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Open after the warm-up, close after the last step."""
        if trainer.global_step == WARM_UP:
            self._open = counted(self.device)
            self.places = self._open.__enter__()
        elif trainer.global_step == WARM_UP + STEPS:
            self._open.__exit__(None, None, None)


def test_a_step_waits_for_the_device_no_more_often_than_known(
    accelerator: str, device: torch.device
) -> None:
    count = Count(device)
    config = experiment("trainer.log_every_n_steps=1000")  # logged values are read by the host
    train(config, accelerator=accelerator, steps=WARM_UP + STEPS, side=64, callbacks=(count,))
    waits = sum(count.places.values()) / STEPS
    report = "\n".join(
        f"{times / STEPS:5.1f}  {place}" for place, times in count.places.most_common()
    )
    print(f"{waits:.1f} synchronising operations a step on {device.type}\n{report}")
    assert waits <= A_STEP, report
    assert device.type != "cpu" or waits == 0, report
