"""Self-distillation of patches beside the loss of pairs.  B pairs, N patches, D tower width, E shared width, K prototypes."""

import copy

import torch
from torch import Tensor

from gestalt.distillation.head import ProjectionHead
from gestalt.distillation.masks import MaskToken
from gestalt.distillation.targets import sinkhorn
from gestalt.losses.terms import Pairs, Parts, Term, mean_over_ranks


class SelfDistillation(Term):
    """Cross-entropy of every patch of a masked image, hidden or visible, to the prototypes of that patch in the whole image.

    Only the head has a moving average; both images pass through the model itself, and the whole one without a gradient.  Prototypes are
    balanced over all patches of the global batch.

    Args:
        tower_width: D.
        width: E.
        hidden: channels of the head's inner layers.
        bottleneck: channels in front of the prototypes.
        prototypes: K.
        mask_share: share of the patches that are hidden, (0, 1).
        momentum: momentum of the head's moving average, [0, 1).
        teacher_temperature: temperature of the softmax of the whole image.
        student_temperature: temperature of the softmax of the masked image.

    Source: iBOT++ of TIPSv2, whose training code is not public: the loss on visible patches too and the average of the head alone; Zhou
    et al. 2022, iBOT (arXiv:2111.07832), for masks and head.
    """

    def __init__(
        self,
        *,
        tower_width: int,
        width: int,
        hidden: int,
        bottleneck: int,
        prototypes: int,
        mask_share: float,
        momentum: float,
        teacher_temperature: float,
        student_temperature: float,
    ) -> None:
        super().__init__()
        self.token = MaskToken(tower_width)
        self.student = ProjectionHead(width, hidden=hidden, bottleneck=bottleneck, prototypes=prototypes)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.mask_share = mask_share
        self.momentum = momentum
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the mean over the patches of valid images."""
        masked = pairs.encode_masked(self.token, self.mask_share)
        whole = pairs.patches.detach()
        if pairs.valid is not None:
            rows = pairs.valid.nonzero().squeeze(1)
            masked, whole = masked[rows], whole[rows]
        with torch.no_grad():
            prototypes = self.teacher(whole)
            targets = sinkhorn(prototypes.flatten(0, 1), temperature=self.teacher_temperature).view_as(prototypes)
        student = self.student(masked)
        wide = torch.promote_types(student.dtype, torch.float32)
        losses = -(targets * (student.to(wide) / self.student_temperature).log_softmax(dim=-1)).sum(dim=-1)  # (B, N)
        return mean_over_ranks(losses, torch.ones_like(losses, dtype=torch.bool))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average of the head."""
        for average, weight in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            average.lerp_(weight, 1 - self.momentum)


def build(parts: Parts) -> Term:
    """Build the term with its options."""
    loss = parts.loss
    return SelfDistillation(
        tower_width=parts.tower_width,
        width=parts.width,
        hidden=loss.self_distillation_hidden,
        bottleneck=loss.self_distillation_bottleneck,
        prototypes=loss.self_distillation_prototypes,
        mask_share=loss.self_distillation_mask_share,
        momentum=loss.self_distillation_momentum,
        teacher_temperature=loss.self_distillation_teacher_temperature,
        student_temperature=loss.self_distillation_student_temperature,
    )
