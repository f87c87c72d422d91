"""Pretrainer: base of both pretraining methods: optimiser, schedules, clipping, loss curve.  B batch, D tower width."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.callbacks.reading import NonFiniteLoss
from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.schedule import build_optimizer, half_cosine, parameter_groups, warmup_cosine
from gestalt.tokens import Tokens

BETAS, EPS = (0.9, 0.999), 1e-8  # PyTorch's defaults for AdamW, which DINO's public code keeps
CURVE_POINTS = 200


class Pretrainer(LightningModule, ABC):
    """Base class that trains image towers; subclasses choose the towers and the loss.

    Args:
        recipe: rates, decays, clipping and steps.
        fused: use AdamW's fused kernel, which fp16's gradient scaler does not support.

    Attributes:
        curve: (step, loss) at about ``CURVE_POINTS`` steps, the last one included.
        last: loss and measurements of the last step.
    """

    def __init__(self, recipe: Pretraining, *, fused: bool = True) -> None:
        super().__init__()
        self.recipe = recipe
        self.fused = fused
        self.curve: list[tuple[int, float]] = []
        self.last: dict[str, float] = {}

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
        final = recipe.final_learning_rate / recipe.learning_rate

        def factor(step: int) -> float:
            return warmup_cosine(step, warmup=recipe.warmup_steps, total=recipe.steps, final=final)

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

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
        """Clip each parameter's gradient by its own norm, as DINO does, and drop the gradients of held parameters.

        Raises:
            NonFiniteLoss: the gradient norm is NaN or infinite; no parameter has changed yet.
        """
        norm = gradient_norm(self.parameters(), precision=str(self.trainer.precision), stop=self._stop)
        self.log("pretrain/gradient_norm", norm)
        if self.recipe.gradient_clip is not None:
            for parameter in self.parameters():
                torch.nn.utils.clip_grad_norm_([parameter], self.recipe.gradient_clip)
        for held in self.held_parameters(self.global_step):
            held.grad = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the loss curve, so that a resumed run continues it."""
        checkpoint["gestalt"] = {"curve": self.curve, "last": self.last}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the loss curve."""
        self.curve, self.last = checkpoint["gestalt"]["curve"], checkpoint["gestalt"]["last"]

    def log_step(self, loss: Tensor, **measured: Tensor) -> None:
        """Log loss and measurements, means over ranks, as ``pretrain/<name>``, and extend the curve.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        names = ("loss", *measured)
        values = torch.stack([value.detach().float() for value in (loss, *measured.values())])
        values = self.trainer.strategy.reduce(values, reduce_op="mean")
        if not torch.isfinite(values[0]):
            self._stop("loss", values[0])
        self.last = dict(zip(names, values.tolist(), strict=True))
        step = self.global_step
        if step % max(1, self.recipe.steps // CURVE_POINTS) == 0 or step == self.recipe.steps - 1:
            self.curve.append((step, self.last["loss"]))
        (group,) = self._decaying()
        for name, value in {**self.last, "learning_rate": group["lr"], "weight_decay": group["weight_decay"]}.items():
            self.log(f"pretrain/{name}", value, prog_bar=name == "loss")

    def _decaying(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups with weight decay."""
        groups: list[dict[str, Any]] = self.optimizers().param_groups  # type: ignore[union-attr]
        return [group for group in groups if group["name"].endswith(".decay")]

    def _stop(self, name: str, value: Tensor) -> NoReturn:
        """Raise ``NonFiniteLoss`` with the step and the hyperparameters to change."""
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        raise NonFiniteLoss(
            f"{name} is {value.item()} at step {self.global_step} of pretraining (learning rate {rate:.3g}). "
            "Try a lower pretraining.learning_rate, a longer pretraining.warmup_steps or a smaller pretraining.gradient_clip"
        )


def gradient_norm(parameters: Iterable[Tensor], *, precision: str, stop: Callable[[str, Tensor], NoReturn]) -> Tensor:
    """Return the norm of all gradients; ``stop`` raises if it is NaN or infinite, except in fp16, whose scaler skips such a step."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if not torch.isfinite(norm) and not precision.startswith("16"):
        stop("gradient norm", norm)
    return norm


def summary_of(tokens: Tokens) -> Tensor:
    """Return the class token, or the mean of the parts for a tower without one.  Returns (B, D)."""
    return tokens.parts.mean(dim=1) if tokens.summary is None else tokens.summary
