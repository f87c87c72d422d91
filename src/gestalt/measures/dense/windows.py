"""Windows, cut from images and embedded in batches of equal size.  I J windows, E shared width, h w
patch grid, H W pixels.
"""

from collections.abc import Sequence
from itertools import islice, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.placement import Axes, Axis, window_starts
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import (
    Size,
    by_size,
    finite,
    interpolate,
    resize_all,
    size_of,
)
from gestalt.tables import READINGS

PIXELS_AT_ONCE = 1 << 20
"""Pixels in one pass of the tower: 5 windows of 448 x 448, at least one.  More do not fit a CPU's
caches and are slower there.
"""

ACCELERATOR_PIXELS_AT_ONCE = 1 << 23
"""Pixels in one pass on an accelerator, most of which small passes would leave idle."""


Starts = tuple[tuple[int, ...], tuple[int, ...]]
"""First rows and first columns of windows, in pixels of the resized image."""


class Pieces(NamedTuple):
    """The windows of one image.

    Attributes:
        features: (I, J, E, h, w) float32, L2-normalised at each location.
        starts: where the windows begin.
        side: rows and columns of a window, in pixels of the resized image.
        image: (3, H, W) uint8, the resized image.
        original: (3, H', W') uint8, the image before resizing.
    """

    features: Tensor
    starts: Starts
    side: Size
    image: Tensor
    original: Tensor

    @property
    def grid(self) -> Size:
        """The patch grid (h, w) that the whole image has at the windows' resolution."""
        rows, columns = (
            max(1, round(whole * cells / side))
            for whole, cells, side in zip(
                size_of(self.image), self.features.shape[-2:], self.side, strict=True
            )
        )
        return rows, columns

    def place(self, number: int) -> tuple[slice, slice]:
        """Return the rows and columns of a window on the canvas; windows are numbered row by
        row.
        """
        row, column = divmod(number, len(self.starts[1]))
        top, left = self.starts[0][row], self.starts[1][column]
        return slice(top, top + self.side[0]), slice(left, left + self.side[1])

    def axes(self, size: Size, protocol: TopDownProtocol, *, canvas: bool = False) -> Axes:
        """Return rows and columns of a label of this size: via the canvas, or at once if the only
        window is the whole image and ``canvas`` is False.
        """
        whole, starts, side = size_of(self.image), self.starts, self.side
        if protocol.window is None and not canvas:
            whole, starts, side = size, ((0,), (0,)), size
        rows, columns = (
            Axis(
                label=size[axis],
                canvas=whole[axis],
                starts=starts[axis],
                side=side[axis],
                cells=self.features.shape[axis - 2],
                upsample=protocol.window_upsample,
            )
            for axis in (0, 1)
        )
        return rows, columns


@torch.no_grad()
def cut_and_embed(
    model: DenseModel, images: Sequence[Tensor], protocol: TopDownProtocol
) -> list[Pieces]:
    """Resize images, (3, H, W) uint8 of any sizes, cut their windows, and pass all windows of equal
    size through the tower together; those of one image, for a reading by ``compute``.

    Raises:
        ValueError: the tower's patches do not divide a window, and the protocol does not fit it; or
            an embedding contains NaN or infinity.
    """
    canvases = resize_all(images, protocol)
    places = [_places(canvas, protocol) for canvas in canvases]
    corners = [list(product(*starts)) for starts, _ in places]
    windows = [
        [
            fitted_to_patches(
                canvas[:, top : top + side[0], left : left + side[1]],
                model.patch_stride,
                protocol,
            )
            for top, left in begins
        ]
        for canvas, (_, side), begins in zip(canvases, places, corners, strict=True)
    ]

    def embed(stack: Tensor, **together: Any) -> Tensor:
        at_once = PIXELS_AT_ONCE if stack.device.type == "cpu" else ACCELERATOR_PIXELS_AT_ONCE
        step = max(1, at_once // (stack.shape[-2] * stack.shape[-1]))
        parts = [
            model.embed_patches(
                part, reading=protocol.reading, positions=protocol.positions, **together
            ).float()
            for part in torch.split(stack, len(stack) if together else step)
        ]
        return torch.cat(parts)

    if READINGS[protocol.reading].compute is None:
        features = iter(by_size([window for row in windows for window in row], embed))
        stacks = [torch.stack(list(islice(features, len(row)))) for row in windows]
    else:
        stacks = [
            embed(torch.stack(row), starts=begins)
            for row, begins in zip(windows, corners, strict=True)
        ]
    pieces = [
        Pieces(
            torch.unflatten(stack, 0, (len(starts[0]), len(starts[1]))),
            starts=starts,
            side=side,
            image=canvas,
            original=image,
        )
        for image, canvas, (starts, side), stack in zip(
            images, canvases, places, stacks, strict=True
        )
    ]
    # the sum of unit vectors is finite if they all are; the host reads once for the batch
    finite(torch.stack([row.features.sum() for row in pieces]), "no patch has a nearest class")
    return pieces


def _places(canvas: Tensor, protocol: TopDownProtocol) -> tuple[Starts, Size]:
    """Return where the windows of a resized image begin, and their size."""
    height, width = size_of(canvas)
    window = protocol.window or max(height, width)
    stride = protocol.stride or window
    rows = window_starts(height, window=window, stride=stride)
    columns = window_starts(width, window=window, stride=stride)
    return (rows, columns), (min(height, window), min(width, window))


def fitted_to_patches(window: Tensor, stride: Size, protocol: TopDownProtocol) -> Tensor:
    """Fit a window to the patches: stretch it to the next multiple or cut off its remainder, as the
    protocol says.
    """
    height, width = window.shape[-2:]
    if protocol.fit == "crop" and height >= stride[0] and width >= stride[1]:
        return window[:, : height // stride[0] * stride[0], : width // stride[1] * stride[1]]
    size = -(-height // stride[0]) * stride[0], -(-width // stride[1]) * stride[1]
    return window if protocol.fit == "refuse" else interpolate(window, size)
