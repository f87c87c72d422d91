"""SelfDistillation: a student predicts the output of its own moving average for other crops.  V crops, B batch, K prototypes."""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gestalt.aggregation import max_of_parts
from gestalt.config.schema_pretraining import Pretraining
from gestalt.distillation.head import ProjectionHead
from gestalt.distillation.image_loss import DistillationLoss, DistillationTerms
from gestalt.distillation.masks import MaskToken, masked_patches
from gestalt.distillation.patch_loss import PatchLoss, PatchTerms
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.pretrainer import Pretrainer, summary_of
from gestalt.tokens import Tokens
from gestalt.training.schedule import half_cosine, linear

VECTORS: dict[str, Callable[[Tokens], Tensor]] = {"cls": summary_of, "max": max_of_parts}
"""``pretraining.summary`` to the image vector of tokens."""


class Outputs(NamedTuple):
    """Outputs of a network for crops.

    Attributes:
        images: (V, B, K), the global crops first.
        patches: (G, B, N, K') of the global crops; None without a loss of patches.
    """

    images: Tensor
    patches: Tensor | None


class Network(nn.Module):
    """A tower and the head on its image vector and its patches.

    Args:
        tower: gives tokens.
        head: gives prototypes.
        vector: makes the image vector (B, D) of tokens.
        mask_token: stands for masked patches; None without masks.
        scores_patches: score the patches of the global crops.
    """

    def __init__(
        self,
        tower: ImageTower,
        head: ProjectionHead,
        *,
        vector: Callable[[Tokens], Tensor] = summary_of,
        mask_token: MaskToken | None = None,
        scores_patches: bool = False,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.head = head
        self.vector = vector
        self.mask_token = mask_token
        self.scores_patches = scores_patches

    def forward(self, global_crops: Tensor, local_crops: Tensor | None = None, mask: Tensor | None = None) -> Outputs:
        """Encode crops of two sizes, each (V, B, 3, H, W) uint8, in one pass per size; ``mask`` (G, B, N) hides patches of global crops."""
        views, images = global_crops.shape[:2]
        with nullcontext() if mask is None or self.mask_token is None else self.mask_token.replacing(self.tower.trunk, mask.flatten(0, 1)):
            tokens = self.tower(global_crops.flatten(0, 1))
        vectors = [self.vector(tokens).reshape(views, images, -1)]
        if local_crops is not None and len(local_crops):
            vectors.append(self.vector(self.tower(local_crops.flatten(0, 1))).reshape(len(local_crops), images, -1))
        patches = self.head.patches(tokens.parts).reshape(views, images, tokens.parts.shape[1], -1) if self.scores_patches else None
        return Outputs(self.head(torch.cat(vectors)), patches)


class SelfDistillation(Pretrainer):
    """DINO: the teacher sees the global crops, the student all; the teacher's tower is saved.

    Args:
        tower: the student's tower; the teacher starts as a copy.
        recipe: schedules, temperatures and the head's sizes.
        fused: as ``Pretrainer``.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.
    """

    def __init__(self, tower: ImageTower, recipe: Pretraining, *, fused: bool = True) -> None:
        super().__init__(recipe, fused=fused)
        on_patches = recipe.patch_weight > 0 or recipe.across_weight > 0
        head = ProjectionHead(
            tower.width,
            hidden=recipe.head_width,
            bottleneck=recipe.bottleneck,
            prototypes=recipe.prototypes,
            patch_prototypes=recipe.patch_prototypes if on_patches else None,
        )
        token = MaskToken(tower.width) if recipe.mask_share > 0 else None
        self.student = Network(tower, head, vector=VECTORS[recipe.summary], mask_token=token, scores_patches=on_patches)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.loss = DistillationLoss(
            recipe.prototypes, student_temperature=recipe.student_temperature, centre_momentum=recipe.centre_momentum
        )
        self.patch_loss = (
            PatchLoss(
                recipe.patch_prototypes or recipe.prototypes,
                centring=recipe.patch_centring,
                student_temperature=recipe.student_temperature,
                centre_momentum=recipe.centre_momentum,
            )
            if on_patches
            else None
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
        """Take one step on a ``MultiCropBatch``."""
        crops = batch["global_crops"]
        with torch.no_grad():
            teacher = self.teacher(crops)
        student = self.student(crops, batch["local_crops"], self._mask(batch))
        temperature = self.temperature(self.global_step)
        terms: DistillationTerms = self.loss(student.images, teacher.images, temperature=temperature)
        loss = self.recipe.image_weight * terms.loss
        centre = torch.linalg.vector_norm(self.loss.centre)
        measured = {"teacher_entropy": terms.entropy, "teacher_entropy_of_mean": terms.entropy_of_mean, "centre_norm": centre}
        if self.patch_loss is not None:
            places = batch["global_places"] if self.recipe.across_weight > 0 else None
            patches: PatchTerms = self.patch_loss(student.patches, teacher.patches, temperature=temperature, places=places)
            loss = loss + self.recipe.patch_weight * patches.same + self.recipe.across_weight * patches.across
            measured |= {"image_loss": terms.loss, **{f"patch_{name}": value for name, value in patches._asdict().items()}}
        self.log_step(loss, **measured, teacher_temperature=temperature, momentum=self.momentum(self.global_step))
        return loss

    def _mask(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Draw the patches of the global crops that the student does not see, (G, B, N) bool; None without masks."""
        recipe, crops = self.recipe, batch["global_crops"]
        if recipe.mask_share == 0:
            return None
        rows, columns = self.student.tower.grid(*crops.shape[-2:])
        draw = partial(masked_patches, batch["sample_id"], batch["epoch"], seed=recipe.seed, total=rows * columns, share=recipe.mask_share)
        return torch.stack([draw(view=view) for view in range(len(crops))])

    def held_parameters(self, step: int) -> list[Tensor]:
        """Return the prototypes during the first ``frozen_head_steps``."""
        head = self.student.head
        layers = [head.prototypes, *([] if head.patch_prototypes is None else [head.patch_prototypes])]
        return [layer.weight for layer in layers] if step < self.recipe.frozen_head_steps else []

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
