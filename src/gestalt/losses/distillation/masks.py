"""Masks, of patches that a tower does not see, and the head of self-distillation.  B batch, N
patches, D width, K prototypes, h w patch grid.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.subsampling import GOLDEN, keep_indices


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
