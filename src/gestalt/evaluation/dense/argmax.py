"""From maps to one winner a pixel, a tile of the label at a time.  M maps, R rows and C columns of patch cells, H W pixels of the label.

What exists at one time is M scores of a tile, or a block of maps where refinement needs whole images; never M scores of the label.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.evaluation.dense.placement import Band

TILE = 128
"""Pixels a side of a tile, at most: small ones have few classes that can win, but each is work of its own."""

TILE_VALUES = 1 << 20
"""Scores of a tile (4 MiB in float32): more do not fit a CPU's caches."""

ACCELERATOR_TILE = 256
"""Pixels a side where each piece of work has to be launched."""

LOG2_E = math.log2(math.e)
"""exp2 is a fraction of the work of exp on a CPU, where exp of what underflows is slower still."""

MARGIN = 1e-5
"""A class is left out of a tile only if it loses by more than what float32 could get wrong, as a share of the largest score."""


class Best(NamedTuple):
    """The winners.

    Attributes:
        value: (H, W) float32, the largest score.
        winner: (H, W) int64 in [0, M), the first map that has it; after a dense CRF the first of its class.
        total: (H, W) float32, the logarithm of the sum of the exponentials of all scores times a scale, where asked for.
    """

    value: Tensor
    winner: Tensor
    total: Tensor | None


def tile_side(device: torch.device, *, maps: int) -> int:
    """Pixels a side of a tile of so many maps on this device."""
    return min(TILE, max(16, math.isqrt(TILE_VALUES // maps) // 16 * 16)) if device.type == "cpu" else ACCELERATOR_TILE


def best_of(maps: Tensor, *, rows: tuple[Band, ...], columns: tuple[Band, ...], scale: float | None = None) -> Best:
    """The largest of M maps at each pixel of the label.

    A pixel's score is a mean of its cells' scores, so that in a tile a class cannot win whose largest cell is below the smallest cell
    of another; such classes are not up-sampled there.

    Args:
        maps: (M, R, C) float32.
        rows: bands of the label's rows.
        columns: bands of its columns.
        scale: if given, the total of exp(scale * score) is wanted too, and no class is left out.
    """
    size = (_end(rows), _end(columns))
    value, index = maps.new_empty(size), torch.empty(size, dtype=torch.int64, device=maps.device)
    total = None if scale is None else maps.new_empty(size)
    able = _everyone(maps, rows=rows, columns=columns) if scale is not None else _able(maps, rows=rows, columns=columns)
    most = max(len(here) for band in able for here in band.names)
    room = maps.new_empty(2, most * len(rows[0].weights) * len(columns[0].weights))  # all tiles' in turn: new pages are slow
    for row, band in zip(rows, able, strict=True):
        half = row.over_span @ maps[:, row.span].index_select(0, band.maps)  # (M', t, C)
        for column, places, names in zip(columns, band.places, band.names, strict=True):
            part = half[:, :, column.span].index_select(0, places)  # (M", t, s)
            shape = (*part.shape[:2], len(column.weights))
            own = room[:, : math.prod(shape)]
            scores = torch.mm(part.flatten(0, 1), column.over_span.T, out=own[0].view(-1, shape[2])).view(shape)
            place = (slice(row.start, row.start + shape[1]), slice(column.start, column.start + shape[2]))
            value[place], index[place] = first_largest(scores, order=names, room=own[1].view(shape))
            if total is not None and scale is not None:
                rest = scores.sub_(value[place]).mul_(scale * LOG2_E).exp2_().sum(dim=0)
                total[place] = value[place] * scale + rest.log_()
    return Best(value, winner=index, total=total)


def first_largest(scores: Tensor, *, order: Tensor | None = None, room: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest of (M, ...) along the first axis, and where it first is: as ``max(dim=0)``, and on a CPU several times as fast.

    Args:
        scores: no NaN.
        order: (M,) int64, rising, what the positions are called; 0 to M - 1 unless given.
        room: float32 like the scores, to be written over; made unless given.

    Returns:
        Values, and names, int64.
    """
    value = scores.amax(dim=0)
    room = torch.empty_like(scores, dtype=torch.float32) if room is None else room  # which has every number of a map, as bfloat16 has not
    smaller = torch.ne(scores, value, out=room)  # 0 or 1
    names = torch.arange(len(scores), device=scores.device) if order is None else order
    rising = names.to(room.dtype).reshape(-1, *[1] * value.dim())
    return value, smaller.mul_(rising[-1] + 1).add_(rising).amin(dim=0).long()


class _Able(NamedTuple):
    """The maps that could win in a band of rows.

    Attributes:
        maps: (m,) int64, those that could anywhere in it.
        names: for each band of columns those that could there, and
        places: where in ``maps`` they are.
    """

    maps: Tensor
    names: Sequence[Tensor]
    places: Sequence[Tensor]


def _everyone(maps: Tensor, *, rows: tuple[Band, ...], columns: tuple[Band, ...]) -> list[_Able]:
    every = torch.arange(len(maps), device=maps.device)
    return [_Able(every, names=[every] * len(columns), places=[every] * len(columns)) for _ in rows]


def _able(maps: Tensor, *, rows: tuple[Band, ...], columns: tuple[Band, ...]) -> list[_Able]:
    """Those that could win in each tile."""
    bounds = []
    for reduce in (torch.amax, torch.amin):
        by_row = torch.stack([reduce(maps[:, band.cells], dim=1) for band in rows], dim=1)  # (M, row bands, C)
        bounds.append(torch.stack([reduce(by_row[:, :, band.cells], dim=2) for band in columns], dim=2))
    most, least = bounds
    margin = MARGIN * maps.abs().amax()
    able = (most >= least.amax(dim=0) - margin).permute(1, 2, 0).cpu()  # (row bands, column bands, M)
    anywhere = able.any(dim=1)  # (row bands, M)
    row, _, name = able.nonzero().T
    place = (anywhere.long().cumsum(dim=1) - 1)[row, name]
    counts = able.sum(dim=2).flatten().tolist()
    by_band = torch.split(anywhere.nonzero()[:, 1].to(maps.device), anywhere.sum(dim=1).tolist())
    names, places = (torch.split(each.to(maps.device), counts) for each in (name, place))
    n = len(columns)
    return [_Able(each, names=names[n * i : n * i + n], places=places[n * i : n * i + n]) for i, each in enumerate(by_band)]


def best_of_tiles(tiles: Iterator[tuple[int, int, Tensor]], *, size: tuple[int, int]) -> Best:
    """The largest score at each pixel of tiles (top, left, (M, t, u)) that are made one by one and cover the label."""
    value: Tensor | None = None
    for top, left, scores in tiles:
        if value is None:
            value, index = scores.new_empty(size), torch.empty(size, dtype=torch.int64, device=scores.device)
        place = (slice(top, top + scores.shape[1]), slice(left, left + scores.shape[2]))
        value[place], index[place] = first_largest(scores)
    assert value is not None
    return Best(value, winner=index, total=None)


def best_of_blocks(blocks: Iterator[Tensor], *, scale: float | None = None) -> Best:
    """The largest at each pixel of maps that come in blocks (m, H, W), in order: a running maximum, argmax and log-sum-exp.

    Args:
        blocks: whole maps at the label's size.
        scale: as in ``best_of``.
    """
    best: Best | None = None
    seen = 0
    for block in blocks:
        value, index = first_largest(block)
        total = None if scale is None else (block * scale).logsumexp(dim=0)
        index = index + seen
        seen += len(block)
        if best is not None:
            better = value > best.value  # of equal values the first stays
            value, index = torch.where(better, value, best.value), torch.where(better, index, best.winner)
            total = None if total is None or best.total is None else torch.logaddexp(best.total, total)
        best = Best(value, winner=index, total=total)
    assert best is not None
    return best


def _end(bands: tuple[Band, ...]) -> int:
    return bands[-1].start + len(bands[-1].weights)
