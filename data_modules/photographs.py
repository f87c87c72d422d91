"""Photographs: from file to pixels.  H W pixels."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def open_rgb(path: Path) -> Image.Image:
    """A photograph in RGB, whatever its file holds; the orientation tag is not applied, since masks are drawn on the stored pixels."""
    with Image.open(path) as image:
        return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) uint8."""
    assert image.mode == "RGB"
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()
