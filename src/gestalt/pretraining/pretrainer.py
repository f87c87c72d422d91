"""Pretrainer: base of both pretraining methods: optimiser, schedules, clipping, loss curve.  B batch, D tower width."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.tokens import Tokens
from gestalt.training.finite import BadStep, FirstBadStep, NonFiniteLoss, is_logging_step
from gestalt.training.schedule import build_optimizer, half_cosine, parameter_groups, warmup_cosine

BETAS, EPS = (0.9, 0.999), 1e-8  # PyTorch's defaults for AdamW, which DINO's public code keeps
CURVE_POINTS = 200


class Pretrainer(LightningModule, ABC):
    """Base class that trains image towers; subclasses choose the towers and the loss.

    Args:
        recipe: rates, decays, clipping and steps.
        fused: use AdamW's fused kernel, which fp16's gradient scaler does not support.

    Attributes:
        curve: (step, loss) at about ``CURVE_POINTS`` steps, the last one included.
        last: loss and measurements of the last step that was read: the steps that are logged, and those of the curve.
    """

    def __init__(self, recipe: Pretraining, *, fused: bool = True) -> None:
        super().__init__()
        self.recipe = recipe
        self.fused = fused
        self.curve: list[tuple[int, float]] = []
        self.last: dict[str, float] = {}
        self._loss = torch.tensor(float("nan"))  # of the last step, this rank's
        self._first_bad = FirstBadStep()

    @property
    @abstractmethod
    def trained_tower(self) -> ImageTower:
        """The tower that is scored and saved."""

    def held_parameters(self, step: int) -> list[Tensor]:
        """Return the parameters that this step does not change."""
        return []

    def after_step(self, step: int) -> None:
        """Update more state after the optimiser's step, before a checkpoint."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, and a learning rate that warms up and follows a cosine by step."""
        recipe = self.recipe
        groups = parameter_groups(self, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
        optimizer = build_optimizer("adamw", groups, betas=BETAS, eps=EPS, fused=self.fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, self._rate_factor), "interval": "step"}}

    def _rate_factor(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        recipe = self.recipe
        final = recipe.final_learning_rate / recipe.learning_rate
        return warmup_cosine(step, warmup=recipe.warmup_steps, total=recipe.steps, final=final)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set this step's weight decay."""
        recipe = self.recipe
        decay = half_cosine(self.global_step, start=recipe.weight_decay, end=recipe.final_weight_decay, total=recipe.steps)
        for group in self._decaying():
            group["weight_decay"] = decay

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then call ``after_step``."""
        step = self.global_step
        super().optimizer_step(*args, **kwargs)
        self.after_step(step)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip each parameter's gradient by its norm, as DINO does, and drop the gradients of held parameters.

        Raises:
            NonFiniteLoss: on every rank at once, at a step that is read: its loss or gradient norm is NaN or infinite, and no parameter has
                changed yet; or that of a step since the last reading.
        """
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self.parameters() if parameter.grad is not None])
        self._first_bad.note(self.trainer, loss=self._loss, gradient_norm=norm, logit_scale=torch.zeros_like(norm))
        if self._is_read():
            self.read_steps()
            self.log("pretrain/gradient_norm", norm)
        if self.recipe.gradient_clip is not None:
            for parameter in self.parameters():
                torch.nn.utils.clip_grad_norm_([parameter], self.recipe.gradient_clip)
        for held in self.held_parameters(self.global_step):
            held.grad = None

    def read_steps(self) -> None:
        """Wait for the device and read whether the steps since the last reading were finite; all ranks call this together.

        Raises:
            NonFiniteLoss: on every rank at once: a loss or gradient norm is NaN or infinite. The message names the first step.
        """
        if not self._first_bad.unread:
            return
        bad = self._first_bad.read(self.trainer)
        if bad is not None:
            raise NonFiniteLoss(self._message(bad))

    def on_train_end(self) -> None:
        """Read the last steps."""
        self.read_steps()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the loss curve, so that a resumed run continues it.

        Raises:
            NonFiniteLoss: a step since the last reading was not finite; no file is written.
        """
        self.read_steps()
        checkpoint["gestalt"] = {"curve": self.curve, "last": self.last}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the loss curve."""
        self.curve, self.last = checkpoint["gestalt"]["curve"], checkpoint["gestalt"]["last"]

    def log_step(self, loss: Tensor, **measured: float | Tensor) -> None:
        """Note a step's loss; at the steps that are read, log it and what was measured, and extend the curve.

        Tensors are logged as means over ranks, as ``pretrain/<name>``. Other steps do not wait for the device.
        """
        self._loss = loss.detach().float()
        if not self._is_read():
            return
        tensors = {"loss": loss, **{name: value for name, value in measured.items() if isinstance(value, Tensor)}}
        values = torch.stack([value.detach().float() for value in tensors.values()])
        self.last = dict(zip(tensors, self.trainer.strategy.reduce(values, reduce_op="mean").tolist(), strict=True))
        if self._is_on_curve():
            self.curve.append((self.global_step, self.last["loss"]))
        (group,) = self._decaying()
        for name, value in {**measured, **self.last, "learning_rate": group["lr"], "weight_decay": group["weight_decay"]}.items():
            self.log(f"pretrain/{name}", value, prog_bar=name == "loss")

    def _is_read(self) -> bool:
        """Return True within a step whose numbers the host reads: one that is logged, or of the curve."""
        return is_logging_step(self.trainer) or self._is_on_curve()

    def _is_on_curve(self) -> bool:
        """Return True within a step of the curve."""
        step, steps = self.global_step, self.recipe.steps
        return step % max(1, steps // CURVE_POINTS) == 0 or step == steps - 1

    def _decaying(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups with weight decay."""
        groups: list[dict[str, Any]] = self.optimizers().param_groups  # type: ignore[union-attr]
        return [group for group in groups if group["name"].endswith(".decay")]

    def _message(self, bad: BadStep) -> str:
        """Return the message of a run that stops for a step, with the hyperparameters to change."""
        rate = self.recipe.learning_rate * self._rate_factor(bad.step)
        return (
            f"{bad.happened()} of pretraining (learning rate {rate:.3g}). "
            "Try a lower pretraining.learning_rate, a longer pretraining.warmup_steps or a smaller pretraining.gradient_clip"
        )


def summary_of(tokens: Tokens) -> Tensor:
    """Return the class token, or the mean of the parts for a tower without one.  Returns (B, D)."""
    return tokens.parts.mean(dim=1) if tokens.summary is None else tokens.summary
