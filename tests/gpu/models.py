"""Dual encoders with random weights and images in memory: what the tests on a device share.  B
batch, H W pixels.
"""

from typing import Any

import torch
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.model import DualEncoder
from gestalt.models.start import build_model
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config

NO_DOWNLOAD = (
    "image.init=random",
    "text.family=open_clip",
    "text.init=random",
    "text.layers=1",
    "text.width=32",
    "text.heads=2",
)
WORDS = ("dog", "cat", "two apples", "a red boat", "grass", "the moon", "snow", "a dog")


def experiment(*overrides: str) -> Experiment:
    """The reference run at scale tiny, with towers that need no file of weights."""
    return tiny_config(*NO_DOWNLOAD, *overrides)


def dual_encoder(*overrides: str, dtype: torch.dtype = torch.float32) -> DualEncoder:
    """A dual encoder in eval mode on the CPU; equal overrides give equal weights."""
    return build_model(experiment(*overrides)).to(dtype).eval()


def images(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Smooth random images (3, H, W) uint8 on the CPU: neighbouring pixels are alike, as in
    photographs.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in sizes:
        coarse = torch.rand(1, 3, 9, 9, generator=generator)
        smooth = torch.nn.functional.interpolate(
            coarse, size=(height, width), mode="bicubic", align_corners=False
        )[0]
        made.append((255 * smooth).clamp(0, 255).to(torch.uint8))
    return made


def batch(count: int, *, side: int, seed: int = 0) -> dict[str, Any]:
    """A training batch of noise with captions, all pairs valid, on the CPU."""
    return {
        "image": random_pixels(count, 3, side, side, seed=seed),
        "text": [f"a photo of {WORDS[number % len(WORDS)]}" for number in range(count)],
        "sample_id": torch.arange(count),
        "epoch": torch.zeros(count, dtype=torch.int64),
        "valid": torch.ones(count, dtype=torch.bool),
        "valid_count": count,
        "reason": [-1] * count,
        "place": [""] * count,
    }
