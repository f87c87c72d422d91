"""SelfDistillation: a student learns what its own moving average says of other crops.  V crops, B batch, K prototypes."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.distillation_loss import DistillationLoss
from gestalt.pretraining.head import ProjectionHead
from gestalt.pretraining.pretrainer import Pretrainer, summary_of
from gestalt.pretraining.schedules import half_cosine, straight


class Network(nn.Module):
    """A tower and the head on its summary."""

    def __init__(self, tower: ImageTower, head: ProjectionHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, crops: list[Tensor]) -> Tensor:
        """Crops of several sizes, each (V, B, 3, H, W) uint8, one pass of the tower for each size.  Returns (sum of V, B, K)."""
        summaries = [summary_of(self.tower(crop.flatten(0, 1))).reshape(*crop.shape[:2], -1) for crop in crops if len(crop)]
        logits: Tensor = self.head(torch.cat(summaries))
        return logits


class SelfDistillation(Pretrainer):
    """DINO.  The teacher sees the global crops, the student all; the teacher's tower is the product.

    Args:
        tower: the student's, and at first the teacher's.
        recipe: schedules, temperatures and the head's sizes.
        fused: see ``Pretrainer``.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.
    """

    def __init__(self, tower: ImageTower, recipe: Pretraining, *, fused: bool = True) -> None:
        super().__init__(recipe, fused=fused)
        head = ProjectionHead(tower.width, hidden=recipe.head_width, bottleneck=recipe.bottleneck, prototypes=recipe.prototypes)
        self.student = Network(tower, head)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.loss = DistillationLoss(
            recipe.prototypes, student_temperature=recipe.student_temperature, centre_momentum=recipe.centre_momentum
        )
        self.train()

    @property
    def product(self) -> ImageTower:
        """The teacher's tower."""
        return self.teacher.tower

    def train(self, mode: bool = True) -> "SelfDistillation":
        """As torch's, but the teacher never trains."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """One step on a ``MultiCropBatch``.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        with torch.no_grad():
            teacher = self.teacher([batch["global_crops"]])
        student = self.student([batch["global_crops"], batch["local_crops"]])
        temperature = self.temperature(self.global_step)
        found = self.loss(student, teacher, temperature=temperature)
        centre = torch.linalg.vector_norm(self.loss.centre)
        self.note(found.loss, teacher_entropy=found.entropy, teacher_entropy_of_mean=found.entropy_of_mean, centre_norm=centre)
        self.log_dict({"pretrain/teacher_temperature": temperature, "pretrain/momentum": self.momentum(self.global_step)})
        loss: Tensor = found.loss
        return loss

    def held(self, step: int) -> list[Tensor]:
        """The prototypes, for the first steps."""
        return [self.student.head.prototypes.weight] if step < self.recipe.frozen_head_steps else []

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """The teacher moves towards the student."""
        share = 1 - self.momentum(step)
        for theirs, ours in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            theirs.lerp_(ours, share)

    def temperature(self, step: int) -> float:
        """The teacher's at a step."""
        recipe = self.recipe
        return straight(step, start=recipe.warmup_teacher_temperature, end=recipe.teacher_temperature, steps=recipe.warmup_teacher_steps)

    def momentum(self, step: int) -> float:
        """How much of the teacher stays at a step."""
        return half_cosine(step, start=self.recipe.momentum, end=1.0, total=self.recipe.steps)
