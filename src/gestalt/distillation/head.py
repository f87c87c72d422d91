"""ProjectionHead: the head of self-distillation.  B batch, D tower width, K prototypes."""

from torch import Tensor, nn
from torch.nn import functional


class ProjectionHead(nn.Module):
    """Three linear layers to an L2-normalised bottleneck, then its cosine with each prototype: (B, D) to (B, K), in [-1, 1].

    Prototypes are the rows of the source's weight-normalised last layer, with magnitudes fixed at 1.

    Args:
        width: D.
        hidden: channels of the two inner layers.
        bottleneck: channels of the bottleneck.
        prototypes: K.
        patch_prototypes: prototypes of patches, behind the same layers; None: the same prototypes.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.2 and appendix C; facebookresearch/dino at 04c0ad9 with ``norm_last_layer``.
    """

    def __init__(self, width: int, *, hidden: int, bottleneck: int, prototypes: int, patch_prototypes: int | None = None) -> None:
        super().__init__()
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)]
        self.layers = nn.Sequential(*layers)
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)
        self.patch_prototypes = None if patch_prototypes is None else nn.Linear(bottleneck, patch_prototypes, bias=False)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)  # the source's 0.02 at its 2,048 channels
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Score each prototype.  (..., D) to (..., K)."""
        return self._cosines(x, self.prototypes)

    def patches(self, x: Tensor) -> Tensor:
        """Score each prototype of patches.  (..., D) to (..., K)."""
        return self._cosines(x, self.prototypes if self.patch_prototypes is None else self.patch_prototypes)

    def _cosines(self, x: Tensor, prototypes: nn.Linear) -> Tensor:
        unit = functional.normalize(self.layers(x), dim=-1)
        return functional.linear(unit, functional.normalize(prototypes.weight, dim=-1))
