"""PatchLoss: every patch of a student predicts the teacher's patch there.  V views, B batch, N patches, K prototypes, h w patch grid."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.distillation.image_loss import entropies
from gestalt.distillation.targets import sinkhorn
from gestalt.losses.gather import rank_share, sum_over_ranks

CENTRINGS = ("centre", "sinkhorn", "sinkhorn_by_position")
"""How patch targets are kept from collapsing: a moving mean is subtracted, or prototypes are balanced over all patches of the batch, or
over those of each position of the grid, so that no prototype can stand for a position."""


class PatchTerms(NamedTuple):
    """Losses of a batch's patches, and entropies that reveal a collapse, in nats, [0, ln K].

    Attributes:
        same: mean cross-entropy to the teacher's patch at the same position of the same view.
        across: mean cross-entropy to the teacher's patches of the other view at the same place of the image; 0 without places.
        entropy: entropy of the teacher's distribution of a patch, mean over patches.
        entropy_of_mean: entropy of the teacher's mean distribution.
    """

    same: Tensor
    across: Tensor
    entropy: Tensor
    entropy_of_mean: Tensor


class PatchLoss(nn.Module):
    """Cross-entropy of each patch of the student, masked or visible, to a distribution of the teacher.

    Args:
        prototypes: K.
        centring: one of ``CENTRINGS``.
        student_temperature: divides the student's outputs.
        centre_momentum: share of the old centre that a step keeps, [0, 1]; for ``centre`` alone.

    Source: iBOT (arXiv:2111.07832), equation 2, with visible patches as in iBOT++ of TIPSv2; balance by position as in CAPI
    (arXiv:2502.08769), section 3.
    """

    centre: Tensor | None

    def __init__(self, prototypes: int, *, centring: str, student_temperature: float, centre_momentum: float) -> None:
        super().__init__()
        if centring not in CENTRINGS:
            raise ValueError(f"centring {centring!r} is unknown: choose one of {', '.join(CENTRINGS)}")
        self.centring = centring
        self.student_temperature = student_temperature
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(prototypes) if centring == "centre" else None)

    def forward(self, student: Tensor, teacher: Tensor, *, temperature: float, places: Tensor | None = None) -> PatchTerms:
        """Compute both losses.

        Args:
            student: (V, B, N, K).
            teacher: (V, B, N, K), of the same views without masks; it gets no gradient.
            temperature: divides the teacher's outputs.
            places: (V, B, 4), where views lie in their image (``corresponding``); None leaves ``across`` out.
        """
        target = self.targets(teacher.detach(), temperature=temperature)
        logs = (student.float() / self.student_temperature).log_softmax(dim=-1)
        same = -(target * logs).sum(dim=-1).mean()
        across = torch.zeros_like(same) if places is None else cross_view(logs, target, places)
        return PatchTerms(same, across, *entropies(target))

    @torch.no_grad()
    def targets(self, teacher: Tensor, *, temperature: float) -> Tensor:
        """Return the teacher's distributions, (V, B, N, K); a centre moves afterwards."""
        views, images, patches, prototypes = teacher.shape
        if self.centring == "sinkhorn":
            return sinkhorn(teacher.reshape(-1, prototypes), temperature=temperature).reshape(teacher.shape)
        if self.centring == "sinkhorn_by_position":
            by_position = teacher.permute(2, 0, 1, 3).reshape(patches, views * images, prototypes)
            return sinkhorn(by_position, temperature=temperature).reshape(patches, views, images, prototypes).permute(1, 2, 0, 3)
        assert self.centre is not None
        teacher = teacher.float()
        target = ((teacher - self.centre) / temperature).softmax(dim=-1)
        count = sum_over_ranks(torch.tensor(float(views * images * patches), device=teacher.device))
        mean = sum_over_ranks(teacher.sum(dim=(0, 1, 2))) / count
        self.centre.mul_(self.centre_momentum).add_(mean, alpha=1 - self.centre_momentum)
        return target


def cross_view(logs: Tensor, target: Tensor, places: Tensor) -> Tensor:
    """Return the mean cross-entropy of patches to the other views' targets at the same place, over patches that another view shows.

    Args:
        logs: (V, B, N, K) log-probabilities of the student; N is a square grid, row-major.
        target: (V, B, N, K) distributions of the teacher, interpolated between patches.
        places: (V, B, 4), see ``corresponding``.
    """
    views, images, patches, _ = logs.shape
    side = round(patches**0.5)
    total, weight = logs.new_zeros(()), logs.new_zeros(())
    for one in range(views):
        for other in range(views):
            if one == other:
                continue
            grid, seen = corresponding(places[one], places[other], side=side)  # (B, N, 2), (B, N)
            maps = target[other].transpose(1, 2).reshape(images, -1, side, side)
            there = functional.grid_sample(maps, grid.unsqueeze(1).to(maps.dtype), padding_mode="border", align_corners=False)
            loss = -(there[:, :, 0].transpose(1, 2) * logs[one]).sum(dim=-1)  # (B, N)
            total, weight = total + (loss * seen).sum(), weight + seen.sum()
    return total * rank_share(weight)


def corresponding(here: Tensor, there: Tensor, *, side: int) -> tuple[Tensor, Tensor]:
    """Find the centres of one view's patches in another view of the same images.

    Args:
        here, there: (B, 4): left, top, right and bottom of a view in the image's coordinates; left > right in a mirrored view.
        side: patches on a side of both views.

    Returns:
        (B, side * side, 2): x and y in the other view, in [-1, 1] inside it, as ``grid_sample`` takes them.
        (B, side * side) bool: True where the other view shows the place.
    """
    middles = (torch.arange(side, device=here.device, dtype=here.dtype) + 0.5) / side
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    own = torch.stack([x.flatten(), y.flatten()], dim=-1)  # (N, 2) in [0, 1]
    position = here[:, None, :2] + own * (here[:, None, 2:] - here[:, None, :2])
    relative = 2 * (position - there[:, None, :2]) / (there[:, None, 2:] - there[:, None, :2]) - 1
    return relative, (relative.abs() <= 1).all(dim=-1)
