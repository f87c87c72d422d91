"""Placement of scores: patch grid to window, overlap averaged, canvas to label, as one matrix per
axis.

All steps are linear and separable, so the label's map of a class is ``rows @ maps @ columns.T``,
without an array of the canvas's size. I windows along the axis, n cells a window.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.support.devices import send


class Axis(NamedTuple):
    """One axis of an image; hashable, so that its matrices are cached.

    Attributes:
        label: pixels of the label.
        canvas: pixels of the resized image.
        starts: I first pixels of windows, on the canvas.
        side: pixels of a window.
        cells: n.
        upsample: cells to window: bilinear, bilinear_aligned or nearest.
    """

    label: int
    canvas: int
    starts: tuple[int, ...]
    side: int
    cells: int
    upsample: str

    def of_pixels(self) -> "Axis":
        """Return the axis whose only window is the resized image, each pixel a cell."""
        return self._replace(starts=(0,), side=self.canvas, cells=self.canvas)


Axes = tuple[Axis, Axis]
"""Rows and columns."""


class Band(NamedTuple):
    """A run of the label's pixels, and the cells that contribute to them.

    Attributes:
        place: the pixels.
        cells: (p,) int64, the columns of the whole matrix that are not zero here.
        span: the columns from the first to the last of those.
        weights: (t, s) float32, over the span; rows sum to 1, zero between one window's cells and
            another's.
    """

    place: slice
    cells: Tensor
    span: slice
    weights: Tensor


Bands = tuple[Band, ...]


def window_starts(size: int, *, window: int, stride: int) -> tuple[int, ...]:
    """Return the first pixels of the windows along a side; the last is shifted back inside, and no
    window is longer than the side.

    Source: mmsegmentation 1.1.1 on PyPI, mmseg/models/segmentors/encoder_decoder.py
    (slide_inference).
    """
    count = max(size - window + stride - 1, 0) // stride + 1
    return tuple(min(number * stride, max(size - window, 0)) for number in range(count))


def resample(rows: Tensor, size: int, mode: str) -> Tensor:
    """Resample (n, m) to (size, m) along the first axis: bilinear with corners aligned or not, or
    nearest centre.
    """
    n = len(rows)
    place = torch.arange(size, dtype=torch.float64)
    if mode == "nearest":
        return rows[((place + 0.5) * n / size).floor().long().clamp(max=n - 1)]
    place = (
        place * (n - 1) / max(size - 1, 1)
        if mode == "bilinear_aligned"
        else ((place + 0.5) * n / size - 0.5).clamp(min=0)
    )
    low = place.floor().long().clamp(max=n - 1)
    weight = (place - low).unsqueeze(1)
    return rows[low] * (1 - weight) + rows[(low + 1).clamp(max=n - 1)] * weight


def window_matrix(axis: Axis) -> Tensor:
    """Return the matrix (side, n) float64 from the cells of a window to its pixels."""
    return resample(torch.eye(axis.cells, dtype=torch.float64), axis.side, mode=axis.upsample)


@lru_cache(maxsize=64)
def canvas_matrix(axis: Axis) -> Tensor:
    """Return the matrix (canvas, I * n) float64 from cells to windows, averaged over the windows
    that cover a pixel.
    """
    inside = window_matrix(axis)
    matrix = torch.zeros(axis.canvas, len(axis.starts) * axis.cells, dtype=torch.float64)
    covered = torch.zeros(axis.canvas, 1, dtype=torch.float64)
    for number, start in enumerate(axis.starts):
        matrix[start : start + axis.side, number * axis.cells : (number + 1) * axis.cells] = inside
        covered[start : start + axis.side] += 1
    return matrix / covered


@lru_cache(maxsize=512)
def label_bands(axis: Axis, length: int, device: torch.device) -> Bands:
    """Cut the axis of the label into bands of ``length`` pixels, made of patch cells."""
    matrix = resample(canvas_matrix(axis), axis.label, mode="bilinear")
    bands = []
    for start in range(0, len(matrix), length):
        rows = matrix[start : start + length]
        cells = rows.any(dim=0).nonzero()[:, 0]
        span = slice(int(cells[0]), int(cells[-1]) + 1)
        bands.append(
            Band(
                slice(start, start + len(rows)),
                send(cells, device),
                span,
                weights=send(rows[:, span].float(), device),
            )
        )
    return tuple(bands)
