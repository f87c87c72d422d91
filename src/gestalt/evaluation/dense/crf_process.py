"""Program that runs a dense CRF in a process of its own: arrays come by standard input and leave by standard output.

Where memory runs out, the library aborts its process without an exception; this keeps the training process alive.
"""

import sys
from typing import IO

import numpy as np

NAMES = ("position_weight", "position_std", "colour_weight", "colour_position_std", "colour_std")
"""The order of the potentials' numbers."""


def infer(energy: np.ndarray, pixels: np.ndarray, *, numbers: dict[str, float], iterations: int) -> np.ndarray:
    """Infer probabilities (K, H, W) float32 from energies (K, H, W) float32 with the edges of pixels (H, W, 3) uint8."""
    from pydensecrf.densecrf import DenseCRF2D

    count, height, width = energy.shape
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(energy.reshape(count, -1)))
    field.addPairwiseGaussian(sxy=numbers["position_std"], compat=numbers["position_weight"])
    field.addPairwiseBilateral(
        sxy=numbers["colour_position_std"], srgb=numbers["colour_std"], rgbim=np.ascontiguousarray(pixels), compat=numbers["colour_weight"]
    )
    return np.array(field.inference(iterations), dtype=np.float32).reshape(energy.shape)


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Read the arguments of ``infer`` for one image as .npz, and write its result as .npy."""
    arrays = np.load(source, allow_pickle=False)
    numbers = dict(zip(NAMES, arrays["numbers"].tolist(), strict=True))
    np.save(target, infer(arrays["energy"], arrays["pixels"], numbers=numbers, iterations=int(arrays["iterations"])))


if __name__ == "__main__":
    import io
    import os

    from gestalt.support.parent import PARENT, end_with

    end_with(int(os.environ[PARENT]))
    serve(io.BytesIO(sys.stdin.buffer.read()), sys.stdout.buffer)
