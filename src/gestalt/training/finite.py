"""Reading of losses and norms from the device: at the steps that are logged, and before a
validation, a checkpoint and the end of training.

Reading a number of the device makes the host wait until the device has computed it, and the device
then waits for the host.  The steps in between read nothing; what may stop a run is kept on the
device until the next reading.
"""

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gestalt.support.faults import StoppedRun

NO_STEP = 2**62
"""Step number that stands for no bad step."""


class NonFiniteLoss(StoppedRun):
    """The loss, its gradient or a weight is NaN or infinite; the message names the step."""


class FirstBadStep:
    """The first step whose loss or gradient norm is NaN or infinite, kept on the device.

    Attributes:
        unread: True if a step was noted since the last reading.
    """

    def __init__(self) -> None:
        self.unread = False
        self._step = torch.full((), NO_STEP)
        self._values = torch.zeros(3)

    def note(
        self, trainer: Trainer, *, loss: Tensor, gradient_norm: Tensor, logit_scale: Tensor
    ) -> None:
        """Take this step's scalars, of this rank; nothing is read on the host.

        Under fp16 the norm is ignored, since the scaler skips a step whose gradient is not finite.
        """
        norm = (
            torch.zeros_like(gradient_norm)
            if str(trainer.precision).startswith("16")
            else gradient_norm
        )
        values = torch.stack([value.detach().float() for value in (loss, norm, logit_scale)])
        if self._step.device != values.device:
            self._step, self._values = self._step.to(values.device), self._values.to(values.device)
        first = ~torch.isfinite(values[:2]).all() & (self._step == NO_STEP)
        self._step = torch.where(first, trainer.global_step, self._step)
        self._values = torch.where(first, values, self._values)
        self.unread = True

    def check(self, trainer: Trainer, rate: Callable[[int], float]) -> None:
        """Read the first bad step of all ranks, which call this together; ``rate`` gives the
        learning rate of a step.

        Raises:
            NonFiniteLoss: names the step, and the hyperparameters to change.
        """
        self.unread = False
        step = _reduced(trainer, self._step, "min")
        number = int(step)
        if number == NO_STEP:
            return
        # on the rank whose loss is NaN; on all if the gradient is, which they share
        here = self._step == step
        values = _reduced(trainer, torch.where(here, self._values, 0), "sum") / _reduced(
            trainer, here.float(), "sum"
        )
        loss, norm, scale = values.tolist()
        name, value = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
        raise NonFiniteLoss(
            f"{name} is {value} at step {number} (learning rate {rate(number):.3g}, logit scale "
            f"{math.exp(scale):.3g}); no checkpoint contains it. Try a lower "
            "optimizer.learning_rate, a longer warm-up or trainer.gradient_clip_val"
        )


def check_weights(weights: Mapping[str, Tensor], *, step: int) -> None:
    """Check every weight on its device; the same on all ranks, so that all of them stop together.

    Raises:
        NonFiniteLoss: a weight is NaN or infinite after ``step`` steps.
    """
    broken = [
        name
        for name, weight in weights.items()
        if weight.is_floating_point() and not torch.isfinite(weight).all()
    ]
    if broken:
        raise NonFiniteLoss(
            f"{len(broken)} of {len(weights)} weights, {broken[0]} first, contain NaN or infinity "
            f"after step {step}; the previous checkpoint is kept. Try a lower "
            "optimizer.learning_rate, a longer warm-up or trainer.gradient_clip_val"
        )


def is_logging_step(trainer: Trainer) -> bool:
    """Return True within a step that is logged, whose numbers the host may read: each
    ``log_every_n_steps``-th, and the last.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    step = trainer.fit_loop.epoch_loop._batches_that_stepped + 1
    return step % every == 0 or step == trainer.max_steps


def _reduced(trainer: Trainer, values: Tensor, how: str) -> Tensor:
    """Return values reduced over ranks; the argument stays as it is."""
    return cast(Tensor, trainer.strategy.reduce(values.clone(), reduce_op=how))
