"""A dense CRF over all pixels of an image, by the library pydensecrf2 (the extra ``crf``), on the CPU.  K classes, H W pixels.

Fully connected, Gaussian edge potentials: Krähenbühl and Koltun 2011 (arXiv:1210.5644).  The library's filter approximates the kernels.
"""

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.protocols.top_down import NO_CRF, Crf


def dense_crf(image: Tensor, energy: Tensor, *, potentials: Crf, iterations: int) -> Tensor:
    """What mean-field inference makes of each class's energy.

    Args:
        image: (3, H, W) uint8, whose edges are followed.
        energy: (K, H, W), minus the logarithm of a probability, up to a constant of each pixel.
        potentials: of the edges.
        iterations: of mean-field inference.

    Returns:
        (K, H, W) float32 probabilities on the energy's device.

    Raises:
        ValueError: the library is not installed; memory runs out; it returns what is no number.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ValueError(f"refinement=crf {NO_CRF}") from error
    count, height, width = energy.shape
    unary = np.ascontiguousarray(energy.flatten(1).float().cpu().numpy())
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    try:
        field = DenseCRF2D(width, height, count)
        field.setUnaryEnergy(unary)
        field.addPairwiseGaussian(sxy=potentials.position_std, compat=potentials.position_weight)
        field.addPairwiseBilateral(
            sxy=potentials.colour_position_std, srgb=potentials.colour_std, rgbim=pixels, compat=potentials.colour_weight
        )
        found = torch.from_numpy(np.array(field.inference(iterations), dtype=np.float32)).reshape(energy.shape)
    except MemoryError as error:
        raise ValueError(
            f"refinement=crf ran out of memory at {height}x{width} pixels with {count} classes; "
            "nothing was skipped: choose refinement=none, or a machine with more"
        ) from error
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"refinement=crf gave values that are no numbers at {height}x{width} pixels with {count} classes")
    return found.to(energy.device)
