"""Self-distillation of patches beside the loss of pairs.  B pairs, N patches, D tower width, E
shared width, K prototypes.
"""

import copy

import torch
from torch import Tensor

from gestalt.losses.distillation import (
    MASK_SHARE,
    MaskToken,
    ProjectionHead,
    move_average,
    sinkhorn,
    student_logs,
)
from gestalt.losses.terms import Pairs, Parts, Term, good_rows, mean_over_ranks
from gestalt.support.devices import send

MOMENTUM = 0.994
"""Momentum of the head's moving average."""


class SelfDistillation(Term):
    """Cross-entropy of every patch of a masked image, hidden or visible, to the prototypes of that
    patch in the whole image.

    Only the head has a moving average; both images pass through the model itself, and the whole one
    without a gradient.  Prototypes are balanced over all patches of the global batch.

    Source: iBOT++ of TIPSv2, whose training code is not public: the loss on visible patches too and
    the average of the head alone; Zhou et al. 2022, iBOT (arXiv:2111.07832), for masks and head.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.token = MaskToken(parts.tower_width)
        self.student = ProjectionHead(
            parts.width, prototypes=parts.loss.self_distillation_prototypes
        )
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the mean over the patches of valid images."""
        masked = pairs.encode_masked(self.token, MASK_SHARE)
        whole = pairs.patches.detach()
        if pairs.valid is not None:
            rows = send(torch.tensor(good_rows(pairs.batch), dtype=torch.int64), masked.device)
            masked, whole = masked[rows], whole[rows]
        with torch.no_grad():
            prototypes = self.teacher(whole)
            targets = sinkhorn(prototypes.flatten(0, 1)).view_as(prototypes)
        losses = -(targets * student_logs(self.student(masked))).sum(dim=-1)  # (B, N)
        return mean_over_ranks(losses, torch.ones_like(losses, dtype=torch.bool))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average of the head."""
        move_average(self.teacher, self.student, momentum=MOMENTUM)
