"""What turns pixels into a ViT's patch vectors, other than one linear map.  B batch, D width, H W pixels."""

from itertools import pairwise
from typing import Any

from torch import nn

STEMS = ("patch", "conv")


class ConvStem(nn.Sequential):
    """Strided 4 x 4 convolutions and a last 1 x 1: (B, 3, H, W) to (B, D, H / patch, W / patch).

    Each convolution halves the resolution and doubles the channels, up to half of D.  A ViT learns faster behind it, which counts where
    nothing is pretrained.  Its kernels have an even side: with the usual 3 x 3 at stride 2 a token would look at its patch's upper left
    corner, half a patch from where it is read.  Its norms see one image at a time: neither the batch nor the ranks change a token.

    Args:
        width: D.
        patch: pixels a side of a patch; a power of two.

    Raises:
        ValueError: a patch that halving does not reach.

    Source: Xiao et al. 2021 (arXiv:2106.14881), section 4, with other kernels, and group instead of batch normalisation.
    """

    def __init__(self, width: int, *, patch: int) -> None:
        halvings = patch.bit_length() - 1
        if patch < 2 or patch != 1 << halvings:
            raise ValueError(
                f"image.stem=conv: patches of {patch} pixels cannot be made by halving; choose image.patch_size 2, 4, 8, 16 or 32"
            )
        channels = [3, *(max(1, width // 2 >> halving) for halving in reversed(range(halvings)))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.GroupNorm(1, after), nn.GELU()]
        super().__init__(*layers, nn.Conv2d(channels[-1], width, 1))


def replace_stem(model: nn.Module, stem: str) -> nn.Module:
    """Give a timm ViT the named stem, in place; ``patch`` leaves timm's own.

    Raises:
        ValueError: no such stem, or the patch does not suit it.
    """
    if stem not in STEMS:
        raise ValueError(f"image.stem {stem!r} is unknown: choose one of {', '.join(STEMS)}")
    if stem == "conv":
        embedding: Any = model.patch_embed
        height, width = embedding.patch_size
        if height != width:
            raise ValueError(f"image.stem=conv: patches of {height} x {width} pixels are not square; choose image.stem=patch")
        embedding.proj = ConvStem(embedding.proj.out_channels, patch=int(height))
    return model
