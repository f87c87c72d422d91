"""A dense CRF over all pixels of an image, by the library pydensecrf2 (the extra ``crf``), on the
CPU.  K classes, H W pixels.

Fully connected, Gaussian edge potentials: Krähenbühl and Koltun 2011 (arXiv:1210.5644).  The
library's filter approximates the kernels.
"""

import numpy as np
import torch
from torch import Tensor

from gestalt.measures.segmentation.protocol import NO_CRF, Crf


def dense_crf(image: Tensor, energy: Tensor, *, potentials: Crf, iterations: int) -> Tensor:
    """Infer each class's probability from its energy, by mean-field inference.

    Args:
        image: (3, H, W) uint8, whose edges are followed.
        energy: (K, H, W), minus the logarithm of a probability, up to a constant of each pixel.
        potentials: weights and standard deviations of the edge potentials.
        iterations: number of iterations of mean-field inference.

    Returns:
        (K, H, W) float32 probabilities on the energy's device.

    Raises:
        ValueError: the library is not installed, or its result contains NaN or infinity.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ValueError(f"refinement=crf {NO_CRF} ({error})") from error
    count, height, width = energy.shape
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(energy.float().cpu().numpy().reshape(count, -1)))
    field.addPairwiseGaussian(sxy=potentials.position_std, compat=potentials.position_weight)
    field.addPairwiseBilateral(
        sxy=potentials.colour_position_std,
        srgb=potentials.colour_std,
        rgbim=pixels,
        compat=potentials.colour_weight,
    )
    probability = torch.from_numpy(
        np.array(field.inference(iterations), dtype=np.float32).reshape(energy.shape)
    )
    if not bool(torch.isfinite(probability).all()):
        raise ValueError(
            f"refinement=crf gave NaN or infinity at {height}x{width} pixels with {count} classes"
        )
    return probability.to(energy.device)
