"""Stem: pixels to a ViT's patch vectors, by convolutions in place of one linear map.  B batch, D
width, H W pixels.
"""

from itertools import pairwise
from typing import Any

from torch import nn


class ConvStem(nn.Sequential):
    """Strided 4 x 4 convolutions and a final 1 x 1: (B, 3, H, W) to (B, D, H / patch, W / patch).

    Each convolution halves the resolution and doubles the channels, up to half of D.  A ViT trained
    from random weights learns faster with it.  Kernels have an even side: a 3 x 3 at stride 2 would
    centre a token on its patch's upper left corner, half a patch off.  Group norm sees one image at
    a time: a token depends on neither the batch nor the ranks.

    Args:
        width: D.
        patch: side of a patch in pixels, a power of two.

    Raises:
        ValueError: a patch size that is not a power of two.

    Source: Xiao et al. 2021 (arXiv:2106.14881), section 4, with other kernels, and group instead of
    batch normalisation.
    """

    def __init__(self, width: int, *, patch: int) -> None:
        halvings = patch.bit_length() - 1
        if patch < 2 or patch != 1 << halvings:
            raise ValueError(
                f"image.stem=conv: patches of {patch} pixels cannot be made by halving; choose "
                "image.patch_size 2, 4, 8, 16 or 32"
            )
        channels = [3, *(max(1, width // 2 >> halving) for halving in reversed(range(halvings)))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.GroupNorm(1, after),
                nn.GELU(),
            ]
        super().__init__(*layers, nn.Conv2d(channels[-1], width, 1))


def with_conv_stem(model: Any) -> Any:
    """Give a timm ViT convolutions as its stem, in place.

    Raises:
        ValueError: a patch that is not square or not a power of two.
    """
    embedding = model.patch_embed
    height, width = embedding.patch_size
    if height != width:
        raise ValueError(
            f"image.stem=conv: patches of {height} x {width} pixels are not square; choose "
            "image.stem=patch"
        )
    embedding.proj = ConvStem(embedding.proj.out_channels, patch=int(height))
    return model
