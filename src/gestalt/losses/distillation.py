"""Self-distillation: masks of patches that a tower does not see, the head, targets that do not
collapse, and the loss of patches; pretraining uses them, and so may a loss term of image-text
training.  V views, B batch, N patches, D width, M samples, K prototypes, h w patch grid.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.losses.matrix import widen
from gestalt.subsampling import GOLDEN, keep_indices
from gestalt.support.ranks import rank_share, sum_over_ranks

TEACHER_TEMPERATURE = 0.04
STUDENT_TEMPERATURE = 0.1
MASK_SHARE = 0.5
"""Share of the patches that a student does not see."""

SINKHORN_STEPS = 3
"""Source: Caron et al. 2020 (arXiv:2006.09882), section 4, and Oquab et al. 2023
(arXiv:2304.07193).
"""


def masked_patches(
    sample_id: Tensor, epoch: Tensor, *, seed: int, view: int, total: int, share: float
) -> Tensor:
    """Draw the patches that are masked in a view of each image: uniformly, without replacement,
    ``share`` of all, rounded.

    A pure function of (seed, epoch, sample id, view), with the same bits on any device, in any
    batch, on any rank.

    Args:
        sample_id: (B,) int64.
        epoch: (B,) int64.
        seed: seed of the run.
        view: number of the crop.
        total: N.
        share: in [0, 1].

    Returns:
        (B, N) bool, True where masked.
    """
    count = round(total * Fraction(share).limit_denominator(10**7))
    mask = torch.zeros(len(sample_id), total, dtype=torch.bool, device=sample_id.device)
    if count:
        mask.scatter_(
            1,
            keep_indices(
                sample_id, epoch, seed=seed + (view + 1) * GOLDEN, total=total, kept=count
            ),
            True,
        )
    return mask


class MaskToken(nn.Module):
    """The learned vector of a masked patch, in place of its embedding and before position
    embeddings.

    Args:
        width: D.

    Source: Zhou et al. 2022 (arXiv:2111.07832); bytedance/ibot, where it starts at zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width))

    @contextmanager
    def replacing(self, trunk: Any, mask: Tensor | None) -> Iterator[None]:
        """Mask a timm ViT's patches within the block: its ``patch_embed`` gives the token where
        ``mask`` (B, N) is True; None masks none.
        """

        def replace(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
            if mask is None:
                return embedded
            # embeddings are (B, N, D) or (B, h, w, D)
            chosen = mask.reshape(*embedded.shape[:-1], 1)
            return torch.where(chosen, self.token.to(embedded.dtype), embedded)

        with trunk.patch_embed.register_forward_hook(replace):
            yield


class ProjectionHead(nn.Module):
    """Three linear layers to an L2-normalised bottleneck, then its cosine with each prototype:
    (B, D) to (B, K), in [-1, 1].

    Prototypes are the rows of the source's weight-normalised last layer, with magnitudes fixed at
    1.

    Args:
        width: D; the inner layers have twice as many channels, the bottleneck half as many.
        prototypes: K.
        drawn_before: prototypes that are drawn and dropped before: with 512 of them the demo's
            recipe draws the shipped weights.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.2 and appendix C; facebookresearch/dino
    at 04c0ad9 with ``norm_last_layer``.
    """

    def __init__(self, width: int, *, prototypes: int, drawn_before: int = 0) -> None:
        super().__init__()
        hidden = 2 * width
        bottleneck = width // 2
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        if drawn_before:
            nn.Linear(bottleneck, drawn_before, bias=False)
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                # the source's 0.02 at its 2,048 channels
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Score each prototype.  (..., D) to (..., K)."""
        unit = functional.normalize(self.layers(x), dim=-1)
        return functional.linear(unit, functional.normalize(self.prototypes.weight, dim=-1))


def move_average(average: nn.Module, model: nn.Module, *, momentum: float) -> None:
    """Move the parameters of a moving average towards those of a model, in place; call without
    gradients.
    """
    for kept, weight in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(weight, 1 - momentum)


@torch.no_grad()
def sinkhorn(
    logits: Tensor, *, temperature: float = TEACHER_TEMPERATURE, steps: int = SINKHORN_STEPS
) -> Tensor:
    """Balance prototypes over samples: each gets the same share of all samples of all ranks, as far
    as ``steps`` rounds reach.

    Leading dimensions are balanced one by one, such as the positions of a grid.  Ranks may hold
    different numbers of samples.

    Args:
        logits: (..., M, K), divided by ``temperature``; those of a sample should then lie within 80
            of each other, which float32 can hold.
        temperature: above 0.
        steps: rounds of both normalisations.

    Returns:
        (..., M, K) float, each row a distribution.

    Source: Cuturi 2013 (arXiv:1306.0895); Caron et al. 2020 (arXiv:2006.09882).
    """
    (wide,) = widen(logits.detach())
    scaled = wide / temperature
    # a factor of each row, which the first round of rows would remove
    plan = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    tiny = torch.finfo(plan.dtype).tiny
    for _ in range(steps):
        plan = plan / plan.sum(dim=-1, keepdim=True)
        plan = plan / sum_over_ranks(plan.sum(dim=-2, keepdim=True)).clamp_min(tiny)
    return plan / plan.sum(dim=-1, keepdim=True).clamp_min(tiny)


def student_logs(logits: Tensor) -> Tensor:
    """Return the student's log-probabilities, (..., K), in float32 or wider."""
    (wide,) = widen(logits)
    return (wide / STUDENT_TEMPERATURE).log_softmax(dim=-1)


def patch_loss(student: Tensor, teacher: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Compare each patch of the student, masked or visible, with distributions of the teacher.

    Args:
        student: (V, B, N, K).
        teacher: (V, B, N, K), of the same views without masks; it gets no gradient.
        places: (V, B, 4), where views lie in their image (``find_places``).

    Returns:
        The mean cross-entropy to the teacher's patch at the same position of the same view, and
        that to the teacher's patches of the other view at the same place of the image.

    Source: iBOT (arXiv:2111.07832), equation 2, with visible patches as in iBOT++ of TIPSv2.
    """
    targets = balanced_by_position(teacher)
    logs = student_logs(student)
    same = -(targets * logs).sum(dim=-1).mean()
    return same, cross_view(logs, targets, places)


def balanced_by_position(teacher: Tensor) -> Tensor:
    """Return the teacher's distributions, (V, B, N, K); prototypes get equal shares of the patches
    at each position of the grid.

    So no prototype can stand for a position.  Source: CAPI (arXiv:2502.08769), section 3.
    """
    views, images, patches, prototypes = teacher.shape
    by_position = teacher.permute(2, 0, 1, 3).reshape(patches, views * images, prototypes)
    return sinkhorn(by_position).reshape(patches, views, images, prototypes).permute(1, 2, 0, 3)


def cross_view(logs: Tensor, target: Tensor, places: Tensor) -> Tensor:
    """Return the mean cross-entropy of patches to the other views' targets at the same place, over
    patches that another view shows.

    Args:
        logs: (V, B, N, K) log-probabilities of the student; N is a square grid, row-major.
        target: (V, B, N, K) distributions of the teacher, interpolated between patches.
        places: (V, B, 4), see ``find_places``.
    """
    views, images, patches, _ = logs.shape
    side = round(patches**0.5)
    total = weight = logs.new_zeros(())
    for one, other in permutations(range(views), 2):
        grid, seen = find_places(places[one], places[other], side)  # (B, N, 2), (B, N)
        maps = target[other].transpose(1, 2).reshape(images, -1, side, side)
        there = functional.grid_sample(
            maps, grid.unsqueeze(1).to(maps.dtype), padding_mode="border", align_corners=False
        )
        loss = -(there[:, :, 0].transpose(1, 2) * logs[one]).sum(dim=-1)  # (B, N)
        total = total + (loss * seen).sum()
        weight = weight + seen.sum()
    return total * rank_share(weight)


def find_places(here: Tensor, there: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Find the centres of one view's patches in another view of the same images.

    Args:
        here, there: (B, 4): left, top, right and bottom of a view in the image's coordinates; left
            > right in a mirrored view.
        side: patches on a side of both views.

    Returns:
        (B, side * side, 2): x and y in the other view, in [-1, 1] inside it, as ``grid_sample``
        takes them. (B, side * side) bool: True where the other view shows the place.
    """
    centres = (torch.arange(side, device=here.device, dtype=here.dtype) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    within = torch.stack([x.flatten(), y.flatten()], dim=-1)  # (N, 2) in [0, 1]
    position = here[:, None, :2] + within * (here[:, None, 2:] - here[:, None, :2])
    relative = 2 * (position - there[:, None, :2]) / (there[:, None, 2:] - there[:, None, :2]) - 1
    return relative, (relative.abs() <= 1).all(dim=-1)
