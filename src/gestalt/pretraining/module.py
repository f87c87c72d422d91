"""Pretraining of an image tower: self-distillation of patches, and classification.  V views, B
batch, N patches, K prototypes.
"""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from gestalt.encoders.image import ImageTower
from gestalt.losses.distillation import (
    MASK_SHARE,
    MaskToken,
    ProjectionHead,
    masked_patches,
    move_average,
    patch_loss,
)
from gestalt.pretraining.keys import Recipe
from gestalt.tokens import Tokens
from gestalt.training.finite import NonFiniteLoss
from gestalt.training.keys import Optimizer as OptimizerKeys
from gestalt.training.schedule import by_step, half_cosine, make_optimizer, rate_factor

BETAS = (0.9, 0.999)  # PyTorch's defaults for AdamW, which DINO's public code keeps
EPS = 1e-8
FINAL_LEARNING_RATE = 1e-5
WEIGHT_DECAY = 0.04
FINAL_WEIGHT_DECAY = 0.1
MAX_GRADIENT = 3.0
"""Norm to which the gradient of each parameter is clipped by itself, as in DINO."""

PROTOTYPES = 128
DRAWN_BEFORE = 512
"""See ``ProjectionHead``."""

FROZEN_PROTOTYPES = 0.1
"""Share of the steps, at the start, in which the prototypes are not trained."""

MOMENTUM = 0.95
"""Momentum of the teacher's moving average at the start; a cosine raises it to 1."""


class Pretrainer(LightningModule):
    """Base of both ways: AdamW with schedules by step; subclasses choose the tower that is saved
    and the loss.

    Args:
        recipe: steps and learning rate.

    Attributes:
        tower: the tower that is scored and saved.
    """

    tower: ImageTower

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW, and a learning rate that warms up and follows a cosine by step."""
        recipe = self.recipe
        keys = OptimizerKeys(
            learning_rate=recipe.learning_rate,
            weight_decay=WEIGHT_DECAY,
            betas=BETAS,
            eps=EPS,
            warmup_steps=round(recipe.warmup * recipe.steps),
            final_rate=FINAL_LEARNING_RATE / recipe.learning_rate,
        )
        optimizer = make_optimizer(self, nn.ModuleDict(), keys=keys)
        return by_step(optimizer, partial(rate_factor, keys=keys, total=recipe.steps))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set this step's weight decay."""
        decay = half_cosine(
            self.global_step, start=WEIGHT_DECAY, end=FINAL_WEIGHT_DECAY, total=self.recipe.steps
        )
        for group in self.trainer.optimizers[0].param_groups:
            if group["name"].endswith(".decay"):
                group["weight_decay"] = decay

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check the gradient, which all ranks share, and clip that of each parameter.

        Raises:
            NonFiniteLoss: on every rank at once, before a parameter has changed.
        """
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if not norm < float("inf"):
            raise NonFiniteLoss(
                f"gradient norm is {norm} at step {self.global_step} of pretraining; no checkpoint "
                "contains it. Try a lower pretraining.learning_rate"
            )
        for parameter in self.parameters():
            nn.utils.clip_grad_norm_(parameter, MAX_GRADIENT)

    def log_step(self, loss: Tensor, **measured: Tensor) -> None:
        """Log a step's loss and what was measured, as means over ranks."""
        self.log("pretrain/loss", loss.detach(), prog_bar=True, sync_dist=True)
        self.log_dict(
            {f"pretrain/{name}": value.detach() for name, value in measured.items()}, sync_dist=True
        )


class Network(nn.Module):
    """A tower and the head on its patches; the student's may see a part of the patches.

    Args:
        tower: gives tokens.
    """

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower
        self.head = ProjectionHead(tower.width, prototypes=PROTOTYPES, drawn_before=DRAWN_BEFORE)
        self.mask_token = MaskToken(tower.width)

    def forward(self, crops: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score the prototypes of each patch: (V, B, 3, H, W) uint8 to (V, B, N, K); ``mask``
        (V, B, N) hides patches.
        """
        hidden = None if mask is None else mask.flatten(0, 1)
        with self.mask_token.replacing(self.tower.trunk, hidden):
            tokens = self.tower(crops.flatten(0, 1))
        scores = self.head(tokens.parts)
        return scores.reshape(*crops.shape[:2], *scores.shape[1:])


class PatchDistillation(Pretrainer):
    """Each patch of a student, masked or visible, predicts the prototypes of a teacher's patch at
    its place in both crops.

    The teacher is a moving average of the student, and sees every patch; its tower is saved.

    Args:
        tower: the student's; the teacher starts as a copy.
        recipe: see ``Pretrainer``.

    Source: Caron et al. 2021, DINO (arXiv:2104.14294), for teacher, head and schedules;
    ``patch_loss`` for the loss.
    """

    def __init__(self, tower: ImageTower, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.student = Network(tower)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.train()

    @property
    def tower(self) -> ImageTower:  # type: ignore[override]
        """The teacher's tower."""
        return self.teacher.tower

    def train(self, mode: bool = True) -> "PatchDistillation":
        """Set the mode of the student; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Take one step on a ``MultiCropBatch`` of two crops."""
        crops = batch["crops"]
        rows, columns = self.student.tower.grid(*crops.shape[-2:])
        draw = partial(
            masked_patches,
            batch["sample_id"],
            batch["epoch"],
            seed=self.recipe.seed,
            total=rows * columns,
            share=MASK_SHARE,
        )
        mask = torch.stack([draw(view=view) for view in range(len(crops))])  # (V, B, N)
        with torch.no_grad():
            teacher = self.teacher(crops)
        same, across = patch_loss(self.student(crops, mask), teacher, places=batch["places"])
        loss = same + across
        self.log_step(loss, same=same, across=across)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check and clip the gradient; hold the prototypes at first."""
        super().on_before_optimizer_step(optimizer)
        if self.global_step < round(FROZEN_PROTOTYPES * self.recipe.steps):
            self.student.head.prototypes.weight.grad = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the teacher towards the student, before a checkpoint."""
        momentum = half_cosine(self.global_step, start=MOMENTUM, end=1.0, total=self.recipe.steps)
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            move_average(self.teacher, self.student, momentum=momentum)


class Classification(Pretrainer):
    """A linear classifier on the summary, trained by cross-entropy on the one label of each image
    and not saved.

    Args:
        tower: the tower to train.
        recipe: see ``Pretrainer``.
        classes: number of classes.
    """

    def __init__(self, tower: ImageTower, recipe: Recipe, *, classes: int) -> None:
        super().__init__(recipe)
        self.tower = tower
        self.classifier = nn.Linear(tower.width, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Take one step on the first crop of a ``MultiCropBatch`` with labels."""
        logits = self.classifier(summary_of(self.tower(batch["crops"][0])))  # (B, classes)
        loss = functional.cross_entropy(logits.float(), batch["label"])
        self.log_step(loss, accuracy=(logits.argmax(dim=-1) == batch["label"]).float().mean())
        return loss


def summary_of(tokens: Tokens) -> Tensor:
    """Return the class token, or the mean of the parts for a tower without one.  Returns (B, D)."""
    return tokens.parts.mean(dim=1) if tokens.summary is None else tokens.summary
