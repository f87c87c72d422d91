"""A dense CRF over all pixels of an image, by the library pydensecrf2 (the extra ``crf``), on the CPU.  K classes, H W pixels.

Fully connected, Gaussian edge potentials: Krähenbühl and Koltun 2011 (arXiv:1210.5644).  The library's filter approximates the kernels.
"""

import io
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.dense import crf_process
from gestalt.evaluation.protocols.top_down import NO_CRF, Crf
from gestalt.support.parent import followed

PROGRAM = Path(__file__).with_name("crf_process.py")


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
        ValueError: the library is not installed or does not load; memory runs out; its result contains NaN or infinity.
    """
    arrays = io.BytesIO()
    np.savez(
        arrays,
        energy=energy.float().cpu().numpy(),
        pixels=image.permute(1, 2, 0).cpu().numpy(),
        numbers=np.array([getattr(potentials, name) for name in crf_process.NAMES]),
        iterations=np.array(iterations),
    )
    count, height, width = energy.shape
    size = f"{height}x{width} pixels with {count} classes"
    probability = torch.from_numpy(np.load(io.BytesIO(_served(arrays.getvalue(), size=size)), allow_pickle=False))
    if not bool(torch.isfinite(probability).all()):
        raise ValueError(f"refinement=crf gave NaN or infinity at {size}")
    return probability.to(energy.device)


def _served(arrays: bytes, *, size: str) -> bytes:
    """Run the CRF in a process of its own; return its output."""
    if find_spec("pydensecrf") is None:
        raise ValueError(f"refinement=crf {NO_CRF}")
    command = [sys.executable, "-P", str(PROGRAM)]
    finished = subprocess.run(
        command, input=arrays, capture_output=True, start_new_session=True, env=followed()
    )  # Ctrl-C must not reach it
    if finished.returncode == 0:
        return finished.stdout
    message = finished.stderr.decode(errors="replace").strip()
    if -finished.returncode in (signal.SIGABRT, signal.SIGKILL) or "bad_alloc" in message or "MemoryError" in message:
        raise ValueError(
            f"refinement=crf ran out of memory at {size} ({message.splitlines()[-1] if message else f'signal {-finished.returncode}'}); "
            "nothing was skipped: choose refinement=none, or a machine with more memory"
        )
    raise ValueError(
        f"refinement=crf: pydensecrf2 failed at {size}: {message.splitlines()[-1] if message else f'status {finished.returncode}'}"
    )
