"""SelfDistillation: a student predicts the output of its own moving average for other crops.  V crops, B batch, K prototypes."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.config.schema_pretraining import Pretraining
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.distillation_loss import DistillationLoss, DistillationTerms
from gestalt.pretraining.head import ProjectionHead
from gestalt.pretraining.pretrainer import Pretrainer, summary_of
from gestalt.schedule import half_cosine, linear


class Network(nn.Module):
    """A tower and the head on its summary."""

    def __init__(self, tower: ImageTower, head: ProjectionHead) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, crops: list[Tensor]) -> Tensor:
        """Encode crops of several sizes, each (V, B, 3, H, W) uint8, in one pass per size.  Returns (sum of V, B, K)."""
        summaries = [summary_of(self.tower(crop.flatten(0, 1))).reshape(*crop.shape[:2], -1) for crop in crops if len(crop)]
        logits: Tensor = self.head(torch.cat(summaries))
        return logits


class SelfDistillation(Pretrainer):
    """DINO: the teacher sees the global crops, the student all; the teacher's tower is saved.

    Args:
        tower: of the student; the teacher starts as a copy.
        recipe: schedules, temperatures and the head's sizes.
        fused: as ``Pretrainer``.

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
    def trained_tower(self) -> ImageTower:
        """The teacher's tower."""
        return self.teacher.tower

    def train(self, mode: bool = True) -> "SelfDistillation":
        """Set the mode of the student; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Take one step on a ``MultiCropBatch``.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        with torch.no_grad():
            teacher = self.teacher([batch["global_crops"]])
        student = self.student([batch["global_crops"], batch["local_crops"]])
        temperature = self.temperature(self.global_step)
        terms: DistillationTerms = self.loss(student, teacher, temperature=temperature)
        centre = torch.linalg.vector_norm(self.loss.centre)
        self.log_step(terms.loss, teacher_entropy=terms.entropy, teacher_entropy_of_mean=terms.entropy_of_mean, centre_norm=centre)
        self.log_dict({"pretrain/teacher_temperature": temperature, "pretrain/momentum": self.momentum(self.global_step)})
        return terms.loss

    def held_parameters(self, step: int) -> list[Tensor]:
        """Return the prototypes during the first ``frozen_head_steps``."""
        return [self.student.head.prototypes.weight] if step < self.recipe.frozen_head_steps else []

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the teacher towards the student."""
        share = 1 - self.momentum(step)
        for teacher, student in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            teacher.lerp_(student, share)

    def temperature(self, step: int) -> float:
        """Return the teacher's temperature at a step."""
        recipe = self.recipe
        return linear(step, start=recipe.warmup_teacher_temperature, end=recipe.teacher_temperature, steps=recipe.warmup_teacher_steps)

    def momentum(self, step: int) -> float:
        """Return the share of the teacher that a step keeps."""
        return half_cosine(step, start=self.recipe.momentum, end=1.0, total=self.recipe.steps)
