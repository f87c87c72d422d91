"""Windows, cut from images and embedded in batches of equal size; the scores on their patch grid;
and what refines scores to follow the image's edges.  K prompts or classes, M maps, P neighbours, I
J windows, E shared width, h w patch grid, H W pixels; rows R = I h, columns C = J w.

Pixel-adaptive mask refinement (PAMR): Araslanov and Roth 2020 (arXiv:2005.08104), section 3.3;
constants as SCLIP, NACLIP and TCL have them (wangf3014/SCLIP at b56bd30, sinahmr/NACLIP at 0cac3a6,
kakaobrain/tcl at bc2b551, their pamr.py).  CRF over all pairs of pixels with Gaussian edge
potentials: Krähenbühl and Koltun 2011 (arXiv:1210.5644), by the library pydensecrf2 (the extra
``crf``), on the CPU; the library's filter approximates the kernels.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense.placement import Axes, Axis, window_starts
from gestalt.measures.dense.protocol import NO_CRF, TopDownProtocol
from gestalt.measures.evaluation.images import (
    Size,
    by_size,
    finite,
    interpolate,
    resize_all,
    size_of,
)
from gestalt.measures.evaluation.prompts import ClassEmbeddings


def dense_crf(image: Tensor, energy: Tensor, protocol: TopDownProtocol) -> Tensor:
    """Infer each class's probability from its energy, by mean-field inference on the CPU.

    Args:
        image: (3, H, W) uint8, whose edges are followed.
        energy: (K, H, W), minus the logarithm of a probability, up to a constant of each pixel.
        protocol: has the potentials and the number of iterations.

    Returns:
        (K, H, W) float32 probabilities.

    Raises:
        ValueError: the library is not installed, or its result contains NaN or infinity.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ValueError(f"refinement=crf {NO_CRF} ({error})") from error
    potentials = protocol.crf
    count, height, width = energy.shape
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(energy.float().numpy().reshape(count, -1)))
    field.addPairwiseGaussian(sxy=potentials.position_std, compat=potentials.position_weight)
    field.addPairwiseBilateral(
        sxy=potentials.colour_position_std,
        srgb=potentials.colour_std,
        rgbim=pixels,
        compat=potentials.colour_weight,
    )
    probability = torch.from_numpy(
        np.array(field.inference(protocol.refinement_iterations), dtype=np.float32).reshape(
            energy.shape
        )
    )
    if not bool(torch.isfinite(probability).all()):
        raise ValueError(
            f"refinement=crf gave NaN or infinity at {height}x{width} pixels with {count} classes"
        )
    return probability


RING = tuple(
    (row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)
)
"""The eight neighbours, row by row."""


def pamr(image: Tensor, maps: Tensor, protocol: TopDownProtocol) -> Tensor:
    """Replace each value repeatedly by the mean of its neighbours, weighted by the similarity of
    their pixels.

    Args:
        image: (3, H, W) float32, of any scale.
        maps: (M, H, W) float32.
        protocol: has the number of repetitions, and as dilations the distances in pixels of the
            rings of eight neighbours.
    """
    dilations = protocol.refinement_dilations
    weights = affinity(image, dilations)
    for _ in range(protocol.refinement_iterations):
        # neighbour by neighbour, so that at most two copies of the maps are in memory
        total = torch.zeros_like(maps)
        for weight, shifted in zip(weights, _neighbours(maps, dilations), strict=True):
            total.addcmul_(shifted, weight)
        maps = total
    return maps


def affinity(image: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Return weights (P, H, W), positive, sum 1 over P: softmax of -mean over channels of
    |difference| / (1e-8 + 0.1 std).

    The unbiased standard deviation is of a channel over the nine pixels of every ring.
    """
    neighbours = torch.stack(list(_neighbours(image, dilations)))  # (P, 3, H, W)
    ring_pixels = torch.cat([neighbours, image.expand(len(dilations), -1, -1, -1)])
    scale = 1e-8 + 0.1 * ring_pixels.std(dim=0)
    return (-((image - neighbours).abs() / scale).mean(dim=1)).softmax(dim=0)


def _neighbours(maps: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield the maps shifted to each neighbour, ring by ring; edges are replicated."""
    height, width = maps.shape[-2:]
    for dilation in dilations:
        padded = functional.pad(maps[None], (dilation,) * 4, mode="replicate")[0]
        for row, column in RING:
            top, left = dilation * (1 + row), dilation * (1 + column)
            yield padded[:, top : top + height, left : left + width]


PIXELS_AT_ONCE = 1 << 20
"""Pixels in one pass of the tower: 5 windows of 448 x 448, at least one.  More do not fit a CPU's
caches and are slower there.
"""

ACCELERATOR_PIXELS_AT_ONCE = 1 << 23
"""Pixels in one pass on an accelerator, most of which small passes would leave idle."""


class Pieces(NamedTuple):
    """The windows of one image.

    Attributes:
        features: (I, J, E, h, w) float32, L2-normalised at each location.
        starts: first rows and first columns of the windows.
        side: rows and columns of a window, in pixels of the resized image.
        image: (3, H, W) uint8, the resized image.
        original: (3, H', W') uint8, the image before resizing.
    """

    features: Tensor
    starts: tuple[tuple[int, ...], tuple[int, ...]]
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
        placement = (size_of(self.image), self.starts, self.side)
        if protocol.window is None and not canvas:
            placement = (size, ((0,), (0,)), size)
        rows, columns = (
            Axis(*axis, upsample=protocol.window_upsample)
            for axis in zip(size, *placement, self.features.shape[-2:], strict=True)
        )
        return rows, columns


@torch.no_grad()
def cut_and_embed(model: Any, images: Sequence[Tensor], protocol: TopDownProtocol) -> list[Pieces]:
    """Resize images, (3, H, W) uint8 of any sizes, cut their windows, and pass all windows of equal
    size through the tower together.

    Raises:
        ValueError: the tower's patches do not divide a window, and the protocol does not fit it; or
            an embedding contains NaN or infinity.
    """
    canvases = resize_all(images, protocol)
    places = [_places(canvas, protocol) for canvas in canvases]
    windows = [
        fitted_to_patches(
            canvas[:, top : top + side[0], left : left + side[1]],
            model.patch_stride,
            protocol,
        )
        for canvas, (rows, columns, side) in zip(canvases, places, strict=True)
        for top in rows
        for left in columns
    ]

    def embed(stack: Tensor) -> Tensor:
        at_once = PIXELS_AT_ONCE if stack.device.type == "cpu" else ACCELERATOR_PIXELS_AT_ONCE
        step = max(1, at_once // (stack.shape[-2] * stack.shape[-1]))
        parts = [
            model.embed_patches(
                part, reading=protocol.reading, positions=protocol.positions
            ).float()
            for part in torch.split(stack, step)
        ]
        return torch.cat(parts)

    features = iter(by_size(windows, embed))
    pieces = [
        Pieces(
            torch.unflatten(
                torch.stack(list(islice(features, len(rows) * len(columns)))),
                0,
                (len(rows), len(columns)),
            ),
            starts=(rows, columns),
            side=side,
            image=canvas,
            original=image,
        )
        for image, canvas, (rows, columns, side) in zip(images, canvases, places, strict=True)
    ]
    # the sum of unit vectors is finite if they all are; the host reads once for the batch
    finite(torch.stack([row.features.sum() for row in pieces]), "no location has a nearest class")
    return pieces


def _places(
    canvas: Tensor, protocol: TopDownProtocol
) -> tuple[tuple[int, ...], tuple[int, ...], Size]:
    """Return first rows, first columns and the size of the windows of a resized image."""
    height, width = canvas.shape[-2:]
    window = protocol.window or max(height, width)
    rows, columns = (
        window_starts(side, window=window, stride=protocol.stride or window)
        for side in (height, width)
    )
    return rows, columns, (min(height, window), min(width, window))


def fitted_to_patches(window: Tensor, stride: Size, protocol: TopDownProtocol) -> Tensor:
    """Fit a window to the patches: stretch it to the next multiple or cut off its remainder, as the
    protocol says.
    """
    height, width = window.shape[-2:]
    if protocol.fit == "crop" and height >= stride[0] and width >= stride[1]:
        return window[:, : height // stride[0] * stride[0], : width // stride[1] * stride[1]]
    size = -(-height // stride[0]) * stride[0], -(-width // stride[1]) * stride[1]
    return window if protocol.fit == "refuse" else interpolate(window, size)


def cosines(pieces: Pieces, prompts: ClassEmbeddings) -> Tensor:
    """Return the cosines of locations and prompts, with the prompts' offsets and the background's
    prior, (I * J, K, h, w) float32.
    """
    rows, columns, width, height, breadth = pieces.features.shape
    flat = pieces.features.permute(2, 0, 3, 1, 4).reshape(width, -1)
    values = (prompts.vectors @ flat).reshape(-1, rows * height, columns * breadth)
    values = prompts.tie(values, dim=0)
    if prompts.offset is not None:
        values = values + prompts.offset[:, None, None]
    if prompts.prior is not None:
        assert prompts.background is not None  # used_prompts
        of_background = prompts.class_index.eq(prompts.background)
        values = values + prompts.prior * of_background[:, None, None]
    windows = values.reshape(-1, rows, height, columns, breadth).permute(1, 3, 0, 2, 4)
    return windows.flatten(0, 1)


def grid_maps(
    pieces: Pieces, prompts: ClassEmbeddings, protocol: TopDownProtocol, logit_scale: float
) -> tuple[Tensor, Tensor]:
    """Turn cosines into scores, as far as that happens on the patch grid: all but the softmax over
    prompts.

    Returns:
        (I * J, M, h, w) float32, the maps that compete, ties go to the first; (M,) int64, the class
            of each.
    """
    values, classes = cosines(pieces, prompts), prompts.class_index
    if protocol.scores == "sigmoid":
        values = torch.sigmoid(protocol.score_scale * values + protocol.score_bias)
    if protocol.scores == "affinity":
        values = _affinity(
            values, pieces, prompts, top=protocol.top_classes, logit_scale=logit_scale
        )
        if protocol.background == "affinity":
            assert prompts.background is not None
            best = values.amax(dim=1, keepdim=True)
            # a map in front that is 1 where no score reaches the window's threshold
            bound = best.amax(dim=(2, 3), keepdim=True).clamp(max=protocol.threshold)
            values = torch.cat([(best < bound).float(), values], dim=1)
            classes = torch.cat([classes.new_full((1,), prompts.background), classes])
    if protocol.refinement == "pamr" and protocol.refined_at == "grid":
        refined = []
        for number, window in enumerate(values):
            pixels = pieces.image[:, *pieces.place(number)].float()
            # the window, shrunk to its patch grid with corners aligned
            guide = functional.interpolate(
                pixels[None], size=window.shape[-2:], mode="bilinear", align_corners=True
            )[0]
            refined.append(pamr(guide, window, protocol))
        values = torch.stack(refined)
    return values, classes


def side_by_side(windows: Tensor, pieces: Pieces) -> Tensor:
    """Reshape (I * J, M, h, w) to (M, R, C)."""
    rows, columns = pieces.features.shape[:2]
    height, width = windows.shape[-2:]
    whole = windows.reshape(rows, columns, *windows.shape[1:]).permute(2, 0, 3, 1, 4)
    return whole.reshape(-1, rows * height, columns * width)


def _affinity(
    values: Tensor, pieces: Pieces, prompts: ClassEmbeddings, top: int | None, logit_scale: float
) -> Tensor:
    """Multiply the softmax over all prompts by the softmax over those nearest to the window's mean
    location.
    """
    logits = values * logit_scale
    over_all = logits.softmax(dim=1)
    if top is not None and top < logits.shape[1]:
        # (I * J, E)
        mean = functional.normalize(pieces.features.mean(dim=(3, 4)).flatten(0, 1), dim=1)
        nearest = (mean @ prompts.vectors.T).topk(top, dim=1).indices
        dropped = torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool).scatter_(1, nearest, False)
        logits = logits.masked_fill(dropped[:, :, None, None], float("-inf"))
    return over_all * logits.softmax(dim=1)
