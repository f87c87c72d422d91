"""What refines scores to follow the image's edges.  K classes, M maps, P neighbours, H W pixels.

Pixel-adaptive mask refinement (PAMR): Araslanov and Roth 2020 (arXiv:2005.08104), section 3.3;
constants as SCLIP, NACLIP and TCL have them (wangf3014/SCLIP at b56bd30, sinahmr/NACLIP at 0cac3a6,
kakaobrain/tcl at bc2b551, their pamr.py).  CRF over all pairs of pixels with Gaussian edge
potentials: Krähenbühl and Koltun 2011 (arXiv:1210.5644), by the library pydensecrf2 (the extra
``crf``), on the CPU; the library's filter approximates the kernels.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense.protocol import NO_CRF, TopDownProtocol


def dense_crf(image: Tensor, energy: Tensor, protocol: TopDownProtocol) -> Tensor:
    """Infer each class's probability from its energy, by mean-field inference on the CPU.

    Args:
        image: (3, H, W) uint8, whose edges are followed.
        energy: (K, H, W), minus the logarithm of a probability, up to a constant of each pixel.
        protocol: has the potentials and the number of iterations.

    Returns:
        (K, H, W) float32 probabilities.

    Raises:
        ValueError: the library is not installed, or its result contains NaN or infinity.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ValueError(f"refinement=crf {NO_CRF} ({error})") from error
    potentials = protocol.crf
    count, height, width = energy.shape
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(energy.float().numpy().reshape(count, -1)))
    field.addPairwiseGaussian(sxy=potentials.position_std, compat=potentials.position_weight)
    field.addPairwiseBilateral(
        sxy=potentials.colour_position_std,
        srgb=potentials.colour_std,
        rgbim=pixels,
        compat=potentials.colour_weight,
    )
    probability = torch.from_numpy(
        np.array(field.inference(protocol.refinement_iterations), dtype=np.float32).reshape(
            energy.shape
        )
    )
    if not bool(torch.isfinite(probability).all()):
        raise ValueError(
            f"refinement=crf gave NaN or infinity at {height}x{width} pixels with {count} classes"
        )
    return probability


RING = tuple(
    (row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)
)
"""The eight neighbours, row by row."""


def pamr(image: Tensor, maps: Tensor, protocol: TopDownProtocol) -> Tensor:
    """Replace each value repeatedly by the mean of its neighbours, weighted by the similarity of
    their pixels.

    Args:
        image: (3, H, W) float32, of any scale.
        maps: (M, H, W) float32.
        protocol: has the number of repetitions, and as dilations the distances in pixels of the
            rings of eight neighbours.
    """
    dilations = protocol.refinement_dilations
    weights = affinity(image, dilations)
    for _ in range(protocol.refinement_iterations):
        # neighbour by neighbour, so that at most two copies of the maps are in memory
        total = torch.zeros_like(maps)
        for weight, shifted in zip(weights, _neighbours(maps, dilations), strict=True):
            total.addcmul_(shifted, weight)
        maps = total
    return maps


def affinity(image: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Return weights (P, H, W), positive, sum 1 over P: softmax of -mean over channels of
    |difference| / (1e-8 + 0.1 std).

    The unbiased standard deviation is of a channel over the nine pixels of every ring.
    """
    neighbours = torch.stack(list(_neighbours(image, dilations)))  # (P, 3, H, W)
    ring_pixels = torch.cat([neighbours, image.expand(len(dilations), -1, -1, -1)])
    scale = 1e-8 + 0.1 * ring_pixels.std(dim=0)
    return (-((image - neighbours).abs() / scale).mean(dim=1)).softmax(dim=0)


def _neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield the maps shifted to each neighbour, ring by ring; edges are replicated."""
    height, width = maps.shape[-2:]
    for dilation in dilations:
        padded = functional.pad(maps[None], (dilation,) * 4, mode="replicate")[0]
        for row, column in RING:
            top, left = dilation * (1 + row), dilation * (1 + column)
            yield padded[:, top : top + height, left : left + width]
