"""Resize images of any size for the tower, and run those of equal size together.  H W pixels."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.support.label_values import map_type

Result = TypeVar("Result")

Size = tuple[int, int]
"""Height and width, in pixels or patches."""


def resize_all(images: Sequence[Tensor], protocol: ImageProtocol) -> list[Tensor]:
    """Resize uint8 images (3, H, W) of any sizes."""
    return [resize(image, protocol) for image in images]


def resize(image: Tensor, protocol: ImageProtocol) -> Tensor:
    """Resize a uint8 image (3, H, W) to the protocol's size, on its own device.

    The interpolation is in float32, and rounded back to uint8, because batches are uint8 and the
    tower normalises; torch's own uint8 kernels exist on the CPU only and round otherwise.  An image
    of that size is returned unchanged.
    """
    height, width = image.shape[-2:]
    crop = size = protocol.target_size(height, width)
    if protocol.resize == "centre_crop":
        side, short = protocol.input_size, min(height, width)
        size = int(side * height / short), int(side * width / short)
    resized = interpolate(image, size, mode=protocol.interpolation, antialias=protocol.antialias)
    if size == crop:
        return resized
    top, left = (round((length - side) / 2) for length in size)
    return resized[:, top : top + side, left : left + side]


def interpolate(
    image: Tensor, size: Size, *, mode: str = "bicubic", antialias: bool = False
) -> Tensor:
    """Interpolate a uint8 image (3, H, W); the result is uint8 again.  An image of that size is
    returned unchanged.
    """
    if image.shape[-2:] == size:
        return image
    pixels = upsample(image.float(), size, mode=mode, antialias=antialias)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def upsample(
    maps: Tensor, size: Size, *, mode: str = "bilinear", antialias: bool = False
) -> Tensor:
    """Resize maps (K, h, w) to (K, H, W): bilinear or bicubic, corners not aligned, or
    nearest-exact.
    """
    return functional.interpolate(
        maps[None],
        size=size,
        mode=mode,
        align_corners=None if mode == "nearest-exact" else False,
        antialias=antialias,
    )[0]


def upsample_nearest(values: Tensor, size: Size) -> Tensor:
    """Resize a map (h, w) of indices or (n, h, w) of masks to a size: each pixel takes the value at
    its centre.
    """
    maps = values.float().reshape(-1, *size_of(values))
    return upsample(maps, size, mode="nearest-exact").reshape(*values.shape[:-2], *size).to(values)


def as_map_type(values: Tensor, classes: int) -> Tensor:
    """Return a map of class indices in the ``map_type`` of that many classes; values for no class
    must be set afterwards.
    """
    return values.to(getattr(torch, map_type(classes)))


def by_size(images: Sequence[Tensor], run: Callable[[Tensor], Iterable[Result]]) -> list[Result]:
    """Run images of equal size together, as (b, 3, H, W), and return one result per image, in the
    images' order.
    """
    results: dict[int, Result] = {}
    for shape in dict.fromkeys(image.shape for image in images):
        alike = [position for position, image in enumerate(images) if image.shape == shape]
        stack = torch.stack([images[position] for position in alike])
        results.update(zip(alike, run(stack), strict=True))
    return [results[position] for position in range(len(images))]


def finite(values: Tensor, consequence: str) -> Tensor:
    """Return values that a model gave unchanged; a ValueError refuses NaN and infinity, and says
    what they lead to.
    """
    if not bool(values.isfinite().all()):
        raise ValueError(f"the model's embeddings contain NaN or infinity, so {consequence}")
    return values


@torch.no_grad()
def embed_images(model: DenseModel, images: Sequence[Tensor], protocol: ImageProtocol) -> Tensor:
    """Embed B images, (3, H, W) uint8, each of its own size, as (B, E) float32; equal sizes go
    through the tower together.
    """
    return torch.stack(
        by_size(resize_all(images, protocol), lambda stack: model.embed_image(stack).float())
    )


def size_of(values: Tensor) -> Size:
    """Return (H, W) of an image or a map (..., H, W)."""
    return values.shape[-2], values.shape[-1]


def sizes_of(maps: Sequence[Tensor]) -> list[Size]:
    """Return ``size_of`` each."""
    return list(map(size_of, maps))
