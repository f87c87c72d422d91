"""Pictures as a user hands them over, read as training data are: files, PIL images, arrays and
tensors.  H W pixels.

A float is a share of white in [0, 1].  16 bits, CMYK, transparency and orientation follow
``photographs`` and ``decoding``.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.decoding import upright
from gestalt.data_modules.pixels.photographs import (
    as_rgb,
    decoding,
    eight_bits,
    open_checked,
    read_bytes,
    to_tensor,
)
from gestalt.support.arrays import Array

Picture = str | os.PathLike[str] | Image.Image | Array | Tensor
"""A path; a PIL image of any mode; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a tensor
with the channels first.

Arrays and tensors are uint8, uint16, or floats in [0, 1].
"""


def read_pictures(pictures: Picture | Sequence[Picture]) -> tuple[list[Tensor], bool]:
    """Read one picture or several, each as (3, H, W) uint8 on the CPU.

    Args:
        pictures: one; or a list, a tuple, or an array or tensor of four axes.

    Returns:
        The pictures, and True if one was given, not several.

    Raises:
        ValueError: none; or a file that is missing or not a picture, or an array of another shape,
            type or range.
    """
    if not isinstance(pictures, list | tuple) and getattr(pictures, "ndim", 0) != 4:
        return [read_picture(pictures)], True  # type: ignore[arg-type]
    tensors = [read_picture(picture) for picture in pictures]  # type: ignore[union-attr]
    if not tensors:
        raise ValueError("an empty list of pictures; give at least one")
    return tensors, False


def read_picture(picture: Picture) -> Tensor:
    """Read a picture as (3, H, W) uint8 on the CPU, turned upright by its EXIF orientation.

    Raises:
        ValueError: a file that is missing or not a picture, or an array of another shape, type or
            range.
    """
    if isinstance(picture, str | os.PathLike | Image.Image):
        name = (
            f"the PIL image of mode {picture.mode}"
            if isinstance(picture, Image.Image)
            else str(Path(picture))
        )
        try:
            with decoding():
                if not isinstance(picture, Image.Image):
                    picture = open_checked(read_bytes(Path(picture)))
                return to_tensor(upright(picture))
        except BadSample as error:
            if error.reason == "missing_image":
                raise ValueError(f"{name}: no such file; name a picture") from error
            raise ValueError(f"{name}: cannot be read as a picture: {error}") from error
    if isinstance(picture, Tensor):
        picture = _channels_last(picture)
    if isinstance(picture, np.ndarray):
        return to_tensor(_from_array(picture))
    raise ValueError(
        f"a {type(picture).__name__} is not a picture; give a path, a PIL image, an array or a "
        "tensor"
    )


def _channels_last(picture: Tensor) -> Array:
    """Convert a tensor (3, H, W), (1, H, W), (4, H, W) or (H, W) to an array."""
    values = picture.detach().cpu()
    if values.ndim == 3 and values.shape[0] in (1, 3, 4):
        values = values.permute(1, 2, 0)
    elif values.ndim != 2:
        raise ValueError(
            f"a tensor {tuple(picture.shape)} is not a picture; expected (3, H, W), (1, H, W), (4, "
            "H, W) or (H, W)"
        )
    return (values.float() if values.is_floating_point() else values).numpy()


def _from_array(picture: Array) -> Image.Image:
    """Convert an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""
    values = np.atleast_3d(picture)
    if not picture.size or picture.ndim not in (2, 3) or values.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"an array {picture.shape} is not a picture; expected (H, W), (H, W, 3) or (H, W, 4), "
            "channels last"
        )
    values = values[..., 0] if values.shape[2] == 1 else values
    if values.dtype == np.uint16:
        values = eight_bits(values)
    elif np.issubdtype(values.dtype, np.floating):
        least, most = float(values.min()), float(values.max())
        if not 0 <= least <= most <= 1:  # this is false for NaN too
            raise ValueError(
                f"floats from {least:g} to {most:g} are not a picture; expected [0, 1]; scale or "
                "clip them"
            )
        values = np.rint(values * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise ValueError(
            f"an array of {values.dtype} is not a picture; expected uint8, uint16, or floats in "
            "[0, 1]"
        )
    with decoding():
        return as_rgb(Image.fromarray(np.ascontiguousarray(values)))
