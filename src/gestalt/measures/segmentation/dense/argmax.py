"""Argmax over maps at each pixel, a tile of the label at a time.  M maps, R rows and C columns of
patch cells, H W pixels of the label.

In memory at one time are M scores of a tile, or a block of maps of the label where refinement needs
whole images.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.measures.segmentation.dense.placement import Bands

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

EVERY_MAP = 1e30


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


def tile_side(device: torch.device, *, maps: int) -> int:
    """Return the side in pixels of a tile of this many maps on this device."""
    return (
        min(TILE, max(16, math.isqrt(TILE_VALUES // maps) // 16 * 16))
        if device.type == "cpu"
        else ACCELERATOR_TILE
    )


def best_of(maps: Tensor, *, rows: Bands, columns: Bands, scale: float | None = None) -> Best:
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
    possible = _possible_winners(
        maps, rows=rows, columns=columns, margin=MARGIN if scale is None else EVERY_MAP
    )
    most = int(possible.sum(dim=2).max())
    # shared by all tiles: new pages are slow
    room = maps.new_empty(2, most * len(rows[0].weights) * len(columns[0].weights))
    for row, in_row in zip(rows, possible, strict=True):
        in_band = in_row.any(dim=0)
        band = in_band.nonzero()[:, 0].to(maps.device)
        half = row.weights @ maps[:, row.span].index_select(0, band)  # (m, t, C)
        for column, in_tile in zip(columns, in_row, strict=True):
            tile = in_tile.nonzero()[:, 0].to(maps.device)
            places = in_tile[in_band].nonzero()[:, 0].to(maps.device)
            part = half[:, :, column.span].index_select(0, places)  # (m of the tile, t, s)
            shape = (*part.shape[:2], len(column.weights))
            tile_room = room[:, : math.prod(shape)]
            scores = torch.mm(
                part.flatten(0, 1), column.weights.T, out=tile_room[0].view(-1, shape[2])
            ).view(shape)
            place = row.place, column.place
            value[place], index[place] = first_largest(
                scores, order=tile, room=tile_room[1].view(shape)
            )
            if total is not None and scale is not None:
                rest = scores.sub_(value[place]).mul_(scale * LOG2_E).exp2_().sum(dim=0)
                total[place] = value[place] * scale + rest.log_()
    return Best(value, winner=index, total=total)


def first_largest(
    scores: Tensor, *, order: Tensor | None = None, room: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the largest of (M, ...) along the first axis and its first index: as ``max(dim=0)``,
    on a CPU several times as fast.

    Args:
        scores: no NaN.
        order: (M,) int64, rising, the index of each position; 0 to M - 1 by default.
        room: float32 like the scores, to be overwritten; allocated by default.

    Returns:
        Values, and indices, int64.
    """
    value = scores.amax(dim=0)
    # float32 holds every index; bfloat16 does not
    room = torch.empty_like(scores, dtype=torch.float32) if room is None else room
    smaller = torch.ne(scores, value, out=room)  # 0 or 1
    order = torch.arange(len(scores), device=scores.device) if order is None else order
    rising = order.to(room.dtype).reshape(-1, *[1] * value.dim())
    return value, smaller.mul_(rising[-1] + 1).add_(rising).amin(dim=0).long()


def _possible_winners(maps: Tensor, *, rows: Bands, columns: Bands, margin: float) -> Tensor:
    """Return where each map may win, (row bands, column bands, M) bool on the CPU: in the tiles in
    which its largest cell is not below the smallest cell of another.

    The margin is a share of the largest score; ``EVERY_MAP`` leaves none out.
    """
    bounds = []
    for reduce in (torch.amax, torch.amin):
        # (M, row bands, C)
        by_row = torch.stack([reduce(maps[:, band.cells], dim=1) for band in rows], dim=1)
        bounds.append(
            torch.stack([reduce(by_row[:, :, band.cells], dim=2) for band in columns], dim=2)
        )
    largest, smallest = bounds
    least = smallest.amax(dim=0) - margin * maps.abs().amax()
    return (largest >= least).permute(1, 2, 0).cpu()


def best_of_blocks(blocks: Iterator[Tensor], *, scale: float | None = None) -> Best:
    """Return the largest at each pixel of maps in blocks (m, H, W), in order: running maximum,
    argmax and, with ``scale``, log-sum-exp.
    """
    best: Best | None = None
    seen = 0
    for block in blocks:
        value, index = first_largest(block)
        total = None if scale is None else (block * scale).logsumexp(dim=0)
        index = index + seen
        seen += len(block)
        if best is not None:
            better = value > best.value  # ties go to the first
            value = torch.where(better, value, best.value)
            index = torch.where(better, index, best.winner)
            total = (
                None if total is None or best.total is None else torch.logaddexp(best.total, total)
            )
        best = Best(value, winner=index, total=total)
    assert best is not None
    return best
