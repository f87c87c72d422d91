"""From maps to one winner a pixel, a tile of the label at a time.  M maps, R rows and C columns of patch cells, H W pixels of the label.

What exists at one time is M scores of a tile, or a block of maps where refinement needs whole images; never M scores of the label.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.evaluation.placement import Band

TILE = 64
"""Pixels a side of a tile: small ones have few classes that can win, but each is work of its own."""

ACCELERATOR_TILE = 256
"""The same where each piece of work has to be launched."""

MARGIN = 1e-5
"""A class is left out of a tile only if it loses by more than what float32 could get wrong, as a share of the largest score."""


class Best(NamedTuple):
    """The winners.

    Attributes:
        value: (H, W) float32, the largest score.
        winner: (H, W) int64 in [0, M), the first map that has it.
        total: (H, W) float32, the logarithm of the sum of the exponentials of all scores times a scale, where asked for.
    """

    value: Tensor
    winner: Tensor
    total: Tensor | None


def tile_side(device: torch.device) -> int:
    """Pixels a side of a tile on this device."""
    return TILE if device.type == "cpu" else ACCELERATOR_TILE


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
    keep = _able(maps, rows=rows, columns=columns) if scale is None else None
    for row, (top, cells, weights) in enumerate(rows):
        band = slice(top, top + len(weights))
        here = None if keep is None else keep[:, row].any(dim=1).nonzero()[:, 0]
        own = maps if here is None else maps[here.to(maps.device)]
        half = weights @ own[:, cells]  # (M', t, C)
        for column, (left, column_cells, column_weights) in enumerate(columns):
            place = (band, slice(left, left + len(column_weights)))
            able = None if keep is None or here is None else keep[here, row, column].nonzero()[:, 0].to(maps.device)
            part = half[:, :, column_cells] if able is None else half[able][:, :, column_cells]
            scores = part @ column_weights.T  # (M", t, u)
            value[place], winner = scores.max(dim=0)
            index[place] = winner if able is None or here is None else here.to(maps.device)[able][winner]
            if total is not None and scale is not None:
                rest = scores.sub_(value[place]).mul_(scale).exp_().sum(dim=0)
                total[place] = value[place] * scale + rest.log_()
    return Best(value, winner=index, total=total)


def _able(maps: Tensor, *, rows: tuple[Band, ...], columns: tuple[Band, ...]) -> Tensor:
    """(M, row bands, column bands) bool on the CPU: which maps could win in which tile."""
    bounds = []
    for reduce in (torch.amax, torch.amin):
        by_row = torch.stack([reduce(maps[:, band.cells], dim=1) for band in rows], dim=1)  # (M, row bands, C)
        bounds.append(torch.stack([reduce(by_row[:, :, band.cells], dim=2) for band in columns], dim=2))
    most, least = bounds
    margin = MARGIN * maps.abs().amax()
    able: Tensor = most >= least.amax(dim=0) - margin
    return able.cpu()


def best_of_tiles(tiles: Iterator[tuple[int, int, Tensor]], *, size: tuple[int, int]) -> Best:
    """The largest score at each pixel of tiles (top, left, (M, t, u)) that are made one by one and cover the label."""
    value: Tensor | None = None
    for top, left, scores in tiles:
        if value is None:
            value, index = scores.new_empty(size), torch.empty(size, dtype=torch.int64, device=scores.device)
        place = (slice(top, top + scores.shape[1]), slice(left, left + scores.shape[2]))
        value[place], index[place] = scores.max(dim=0)
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
        value, index = block.max(dim=0)
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
