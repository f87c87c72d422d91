"""ProjectionHead: the head of self-distillation.  B batch, D tower width, K prototypes."""

from torch import Tensor, nn
from torch.nn import functional


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
