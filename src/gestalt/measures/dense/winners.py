"""The winning prompt of each pixel of a label, from the windows of its image.  M maps, K prompts, I
J windows, R rows and C columns of patch cells, H W pixels of the label.

Three routes, by the steps after the patch grid: linear steps alone, tile by tile, which a softmax
over prompts precedes on the pixels of the resized image; PAMR on pixels, by blocks of whole maps; a
CRF, on the whole maps of all classes.  In memory at one time are M scores of a tile, of the resized
image under a softmax, or a block of maps of the label where refinement needs whole images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.measures.dense.placement import (
    Axes,
    Bands,
    canvas_matrix,
    label_bands,
    resample,
    window_matrix,
)
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.refine import dense_crf, pamr
from gestalt.measures.dense.scores import side_by_side
from gestalt.measures.dense.windows import Pieces
from gestalt.measures.evaluation.images import Size, interpolate, size_of, upsample
from gestalt.support.devices import on_host, send

TILE = 128
"""Largest side of a tile in pixels: small tiles have few classes that can win, but each tile costs
a fixed overhead.
"""

TILE_VALUES = 1 << 20
"""Scores of a tile (4 MiB in float32): more do not fit a CPU's caches."""

ACCELERATOR_TILE = 256
"""Side of a tile in pixels on an accelerator, where each kernel launch costs time."""

LOG2_E = math.log2(math.e)
"""exp2 is several times as fast as exp on a CPU, and more so for values that underflow."""

MARGIN = 1e-5
"""A map is left out of a tile only if it loses by more than the rounding error of float32, as a
share of the largest score.
"""


class Best(NamedTuple):
    """The largest score at each pixel, and the map that has it.

    Attributes:
        value: (H, W) float32, the largest score.
        winner: (H, W) int64 in [0, M), the first map that has it; after a dense CRF the first of
            its class.
        total: (H, W) float32, the log-sum-exp of all scores times a scale; None unless a scale was
            given.
    """

    value: Tensor
    winner: Tensor
    total: Tensor | None


def tile_side(device: torch.device, maps: int) -> int:
    """Return the side in pixels of a tile of this many maps on this device."""
    return (
        min(TILE, max(16, math.isqrt(TILE_VALUES // maps) // 16 * 16))
        if device.type == "cpu"
        else ACCELERATOR_TILE
    )


def best_of(maps: Tensor, rows: Bands, columns: Bands, scale: float | None = None) -> Best:
    """Return the largest of M maps at each pixel of the label.

    A pixel's score is a mean of its cells' scores, so that in a tile a map cannot win whose largest
    cell is below the smallest cell of another; such maps are not up-sampled there.

    Args:
        maps: (M, R, C) float32.
        rows: bands of the label's rows.
        columns: bands of its columns.
        scale: if given, the total of exp(scale * score) is computed too, and no map is left out.
    """
    size = (rows[-1].place.stop, columns[-1].place.stop)
    value, index = maps.new_empty(size), torch.empty(size, dtype=torch.int64, device=maps.device)
    total = None if scale is None else maps.new_empty(size)
    if scale is None:
        possible = _possible_winners(maps, rows, columns)
    else:
        possible = torch.ones(len(rows), len(columns), len(maps), dtype=torch.bool)
    for row, in_row in zip(rows, possible, strict=True):
        in_band = in_row.any(dim=0)
        band = send(in_band.nonzero()[:, 0], maps.device)
        half = row.weights @ maps[:, row.span].index_select(0, band)  # (m, t, C)
        for column, in_tile in zip(columns, in_row, strict=True):
            places = send(in_tile[in_band].nonzero()[:, 0], maps.device)
            part = half[:, :, column.span].index_select(0, places)  # (m of the tile, t, s)
            scores = part @ column.weights.T
            place = row.place, column.place
            value[place], first = first_largest(scores)
            index[place] = band[places][first]
            if total is not None and scale is not None:
                rest = scores.sub_(value[place]).mul_(scale * LOG2_E).exp2_().sum(dim=0)
                total[place] = value[place] * scale + rest.log_()
    return Best(value, winner=index, total=total)


def first_largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of (M, ...) along the first axis, which holds no NaN, and its first index,
    int64: the results of ``max(dim=0)``, on a CPU several times as fast.
    """
    value, count = scores.amax(dim=0), len(scores)
    # float32 holds every index; bfloat16 does not
    rising = torch.arange(count, dtype=torch.float32, device=scores.device)
    smaller = torch.ne(scores, value, out=torch.empty_like(scores, dtype=torch.float32))  # 0 or 1
    smaller = smaller.mul_(count).add_(rising.reshape(-1, *[1] * value.dim()))
    return value, smaller.amin(dim=0).long()


def _possible_winners(maps: Tensor, rows: Bands, columns: Bands) -> Tensor:
    """Return where each map may win, (row bands, column bands, M) bool on the CPU: in the tiles in
    which its largest cell is not below the smallest cell of another.
    """
    bounds = []
    for reduce in (torch.amax, torch.amin):
        # (M, row bands, C)
        by_row = torch.stack([reduce(maps[:, band.cells], dim=1) for band in rows], dim=1)
        bounds.append(
            torch.stack([reduce(by_row[:, :, band.cells], dim=2) for band in columns], dim=2)
        )
    largest, smallest = bounds
    least = smallest.amax(dim=0) - MARGIN * maps.abs().amax()
    return (largest >= least).permute(1, 2, 0).cpu()


def best_of_blocks(blocks: Iterator[Tensor], scale: float | None = None) -> Best:
    """Return the largest at each pixel of maps in blocks (m, H, W), in order: running maximum,
    argmax and, with ``scale``, log-sum-exp.
    """
    best = None
    seen = 0
    for block in blocks:
        value, index = first_largest(block)
        total = None if scale is None else (block * scale).logsumexp(dim=0)
        index = index + seen
        seen += len(block)
        if best is not None:
            index = torch.where(value > best.value, index, best.winner)  # ties go to the first
            value = torch.maximum(value, best.value)
            if total is not None and best.total is not None:
                total = torch.logaddexp(best.total, total)
        best = Best(value, winner=index, total=total)
    assert best is not None
    return best


VALUES_AT_ONCE = 1 << 25
"""Up-sampled values in memory at one time in ``upsampled_argmax`` (128 MiB in float32)."""


def upsampled_argmax(maps: Tensor, size: Size) -> Tensor:
    """Up-sample maps (K, h, w) bilinearly, corners not aligned, and return the index of the largest
    at each pixel, (H, W) int64.

    A block of maps is up-sampled at a time, so the memory does not grow with K.  Equal values go to
    the first map.
    """
    step = max(1, VALUES_AT_ONCE // (size[0] * size[1]))
    blocks = (upsample(block.contiguous(), size) for block in torch.split(maps, step))
    return best_of_blocks(blocks).winner


BLOCK_VALUES = 1 << 23
"""Values of a block of whole maps that are refined at one time (32 MiB in float32), at least one
map.
"""


@dataclass(frozen=True)
class Winners:
    """The maps of an image, and the winners among all or some of them.

    Attributes:
        pieces: its windows.
        values: (I * J, M, h, w) float32, the scores of its maps on the patch grid.
        classes: (M,) int64, the class of each.
        protocol: up-sampling and refinement.
        size: (H, W) of the label.
        logit_scale: factor from scores to logits.
    """

    pieces: Pieces
    values: Tensor
    classes: Tensor
    protocol: TopDownProtocol
    size: Size
    logit_scale: float

    @property
    def scale(self) -> float | None:
        """The logit scale if the background rule needs the total of exp(scale * score), else
        None.
        """
        needs_total = (
            self.protocol.background == "probability" and (self.protocol.threshold or 0) > 0
        )
        return self.logit_scale if needs_total else None

    def among(self, chosen: Tensor | slice = slice(None)) -> Best:
        """Return the winners among the chosen (n,) int64 maps, as positions in ``chosen``; among
        all maps by default.
        """
        values = self.values[:, chosen]
        protocol, softmax = self.protocol, self.protocol.scores == "softmax"
        if protocol.refinement == "crf":
            return self._by_crf(values, self.classes[chosen])
        if protocol.refinement == "pamr" and protocol.refined_at == "label":
            return best_of_blocks(self._refined_blocks(values), self.scale)
        axes = self.pieces.axes(self.size, protocol, canvas=softmax)
        values = (
            mean_softmax(values, self.pieces, axes)
            if softmax
            else side_by_side(values, self.pieces)
        )
        tile = tile_side(values.device, maps=len(self.classes))
        rows, columns = (
            label_bands(axis.of_pixels() if softmax else axis, tile, values.device) for axis in axes
        )
        return best_of(values, rows, columns, self.scale)

    def _by_crf(self, values: Tensor, classes: Tensor) -> Best:
        """Return the classes chosen by a dense CRF, each as its first map; exp(scale * score -
        total) is a score's probability.
        """
        cropped = self.protocol.resize == "centre_crop"  # scores cover the crop alone
        place = values.device
        values, classes, image = on_host(
            values, classes, self.pieces.image if cropped else self.pieces.original
        )
        members = [classes == index for index in torch.unique(classes)]
        firsts = torch.stack([maps.nonzero()[0, 0] for maps in members])
        logits = (
            torch.stack(
                [
                    place_maps(values[:, maps], self.pieces, self.protocol, self.size).amax(dim=0)
                    for maps in members
                ]
            )
            * self.logit_scale
        )
        probability = dense_crf(
            interpolate(image, self.size, mode="bilinear"),
            logits.amax(dim=0) - logits,
            self.protocol,
        )
        best, index = first_largest(probability)
        best, winner = send(best, place), send(firsts[index], place)
        if self.scale is None:
            return Best(best, winner=winner, total=None)
        return Best(best.log() / self.scale, winner=winner, total=torch.zeros_like(best))

    def _refined_blocks(self, values: Tensor) -> Iterator[Tensor]:
        """Yield blocks (m, H, W) of the maps in order, refined by PAMR on the label's pixels."""
        protocol, size = self.protocol, self.size
        step = max(1, BLOCK_VALUES // (size[0] * size[1]))
        guide = upsample(self.pieces.image.float(), size)
        for block in torch.split(values, step, dim=1):
            yield pamr(guide, place_maps(block, self.pieces, protocol, size), protocol)


def place_maps(values: Tensor, pieces: Pieces, protocol: TopDownProtocol, size: Size) -> Tensor:
    """Place maps (I * J, M, h, w) of the patch grid at a size: (M, H, W), bilinear, averaged where
    windows overlap.
    """
    axes = pieces.axes(size, protocol)
    rows, columns = (
        send(resample(canvas_matrix(axis), axis.label, mode="bilinear").float(), values.device)
        for axis in axes
    )
    return rows @ side_by_side(values, pieces) @ columns.T


def mean_softmax(values: Tensor, pieces: Pieces, axes: Axes) -> Tensor:
    """Return the mean over windows of the softmax over prompts of up-sampled cosines, (K, H', W'),
    at the pixels of the resized image.
    """
    rows, columns = (send(window_matrix(axis).float(), values.device) for axis in axes)
    total = values.new_zeros(values.shape[1], *size_of(pieces.image))
    count = torch.zeros_like(total[0])
    for number, window in enumerate(values):
        place = pieces.place(number)
        total[:, *place] += (rows @ window @ columns.T).softmax(dim=0)
        count[place] += 1
    return total.div_(count)
