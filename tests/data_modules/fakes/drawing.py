"""Drawing fake photographs whose colour says what is where, so that a test knows the truth without
reading a mask.  H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Values = NDArray[np.int64]
"""(H, W): what a pixel is, as the layout numbers it."""


def blocks(values: Sequence[int], *, shape: tuple[int, int], seed: int) -> Values:
    """A map of random blocks, five pixels a side, in which every one of the values is."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-shape[0] // 5), -(-shape[1] // 5)
    cells = rng.choice(values, (rows, columns))
    cells.reshape(-1)[rng.permutation(rows * columns)[: len(values)]] = values
    # whole cells at the edge, so that no value is cut away
    return cells.repeat(5, 0).repeat(5, 1)[: shape[0], : shape[1]].astype(np.int64)


def save_photograph(path: Path, values: Values) -> None:
    """Red and green say the value.  Always a PNG, whatever the name ends in: real sets hold such
    files, and JPEG would blur the values.
    """
    save_colours(path, np.stack([values % 256, values // 256, np.full_like(values, 90)], axis=-1))


def save_colours(path: Path, colours: NDArray[Any]) -> None:
    """A PNG of (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(path, format="PNG")


def painted_values(image: Any) -> Values:
    """Decode the values that are stored in the colours of a fake photograph (3, H, W)."""
    colours: Values = image.numpy().astype(np.int64)
    return colours[0] + 256 * colours[1]


def save_mask(path: Path, values: NDArray[Any], *, palette: bool = False) -> None:
    """A PNG or TIFF of one channel: 8 bits, or 16 where the values need them or a TIFF has them; or
    of a palette.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(
        values.astype(np.uint8 if values.max() < 256 and path.suffix != ".tif" else np.uint16)
    )
    if palette:
        mask.putpalette(
            [channel for index in range(256) for channel in (index, 255 - index, 7 * index % 256)]
        )
    mask.save(path)


def write_list(path: Path, names: Sequence[str]) -> None:
    """One name a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
