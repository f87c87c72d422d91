"""Baselines of the scores.  C classes, n groups, h w patch grid, H W pixels.

For an mIoU: constant background, shuffled text, patch-grid oracle.  For a Jaccard similarity: the
whole image, blocks, patch-grid oracle.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense.winners import upsampled_argmax
from gestalt.measures.evaluation.images import Size, size_of, upsample
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.support.arrays import Ints
from gestalt.support.devices import bin_counts, occurring, ranks_among, send
from gestalt.support.label_values import IGNORE, WIDE

LEVELS = 256
"""Thresholds of the shares among which ``object_oracle`` takes the best."""


def shuffled_classes(count: int, prompts: ClassEmbeddings) -> Ints:
    """Return the class that each class is predicted as when prompts are swapped: one fixed cycle
    over the classes that have prompts.

    No class keeps its own prompts, except a single class without another to swap with; a
    threshold's background takes no part. Relabelling a prediction with it is the same as predicting
    with shuffled text, and costs no second pass.

    Returns:
        (C,) int64.
    """
    named = sorted(set(prompts.class_index.tolist()))
    order = np.random.default_rng([len(named)]).permutation(named)
    table = np.arange(count)
    table[order] = np.roll(order, 1)
    return table


def patch_oracle(label: Tensor, grid: Size) -> Tensor:
    """Predict a label (H, W) by a map of the grid (h, w): class shares of each cell, up-sampled
    like logits, argmax.

    A share is an exact area, also where cells cut through pixels; pixels that are not scored, of
    the value for the label's type, are left out of it.

    Returns:
        (H, W) in the label's type.
    """
    ignored = WIDE if label.dtype == torch.int32 else IGNORE
    classes, areas = cell_areas(label, grid, values=ignored + 1)
    # ignored pixels have a share of 0, which wins only where there are no others
    scored = (classes != ignored)[:, None, None]
    areas = areas * scored
    shares = areas / areas.sum(dim=0).clamp_min(torch.finfo(areas.dtype).tiny)
    return classes.to(label.dtype)[upsampled_argmax(shares, size_of(label))]


def object_oracle(instance: Tensor, grid: Size) -> Tensor:
    """Approximate the best mask that a map of the grid (h, w) can give of each object in (H, W)
    uint8, background included.

    Exact shares of each cell, up-sampled like logits, thresholded at the one of 256 levels with the
    best IoU.  Objects do not compete, so an object smaller than a cell is not lost; ignored pixels
    are left out.

    Returns:
        (K, H, W) bool, one mask per value of the map, in ascending order.
    """
    labelled = instance != IGNORE
    values, areas = cell_areas(instance, grid, values=IGNORE + 1)
    objects = values != IGNORE
    values, areas = values[objects], areas[objects]
    whole = areas.sum(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
    masks = [torch.zeros_like(labelled[None])[:0]]
    for value, area in zip(values, areas, strict=True):
        inside = instance == value
        share = upsample((area / whole)[None], size_of(instance))[0]
        level = (share * 255 / share.max()).round().long().clamp(0, 255)
        counts = torch.bincount(
            (level + LEVELS * (labelled.long() + inside)).flatten(), minlength=3 * LEVELS
        ).reshape(3, LEVELS)
        hits, area = (
            levels.flip(0).cumsum(0).flip(0) for levels in (counts[2], counts[1] + counts[2])
        )
        best = (hits.float() / (hits[0] + area - hits).clamp_min(1)).argmax()
        masks.append((level >= best)[None])
    return torch.cat(masks)


def blocks(label: Tensor, count: int) -> Tensor:
    """Group the pixels of a label (H, W) by position alone: a regular grid of ``count`` equal
    blocks, 1 to 255.

    The blocks are as square as possible; ties go to the layout with more columns.

    Returns:
        (H, W) uint8 in [0, count), row by row.
    """
    height, width = label.shape
    layouts = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]

    def stretch(layout: Size) -> float:
        """Return the ratio of the longer side of a block to the shorter."""
        sides = (height * layout[1], width * layout[0])
        return max(sides) / min(sides)

    rows, columns = min(layouts, key=stretch)
    row = torch.arange(height, device=label.device) * rows // height
    column = torch.arange(width, device=label.device) * columns // width
    return (row.unsqueeze(1) * columns + column).to(torch.uint8)


def cell_areas(label: Tensor, grid: Size, *, values: int) -> tuple[Tensor, Tensor]:
    """Return the values of a label (H, W) in [0, values), and the pixels of each that lie in each
    cell of the grid; a pixel that cells cut through counts in parts.

    Pixels of a row or column that the same cells cover in the same shares form a block, so the
    pixels of all values are counted once, by block.  The host waits for a device once.

    Returns:
        (K,) int64 in ascending order; (K, h, w) float32.
    """
    occurs = occurring(label, values)
    present = occurs.nonzero()[:, 0]
    height, width = label.shape
    row, of_rows = (send(part, label.device) for part in blocks_of(height, grid[0]))
    column, of_columns = (send(part, label.device) for part in blocks_of(width, grid[1]))
    shape = len(present), of_rows.shape[1], of_columns.shape[1]
    place = (ranks_among(label, occurs) * shape[1] + row[:, None]) * shape[2] + column
    counts = bin_counts(place, shape[0] * shape[1] * shape[2]).reshape(shape)
    return present, of_rows @ counts.float() @ of_columns.T


@lru_cache(maxsize=256)
def blocks_of(side: int, cells: int) -> tuple[Tensor, Tensor]:
    """Group the pixels of a side by the shares in which equal cells cover them.

    Returns:
        (side,) int64, the block of each pixel; (cells, blocks) float32 in [0, 1], the share of a
        pixel of each block that lies in each cell.
    """
    shares = overlap(side, cells)
    new = (shares[:, 1:] != shares[:, :-1]).any(dim=0)
    block = functional.pad(new.cumsum(0), (1, 0))
    first = functional.pad(new, (1, 0), value=True)
    return block, shares[:, first]


def overlap(side: int, cells: int) -> Tensor:
    """Return the share of each pixel that lies in each of the equal cells of a side, (cells, side)
    float32 in [0, 1].
    """
    pixel = torch.arange(side)
    cell = torch.arange(cells).unsqueeze(1)
    # in units of 1 / cells of a pixel, so that the arithmetic is of integers
    end = torch.minimum((pixel + 1) * cells, (cell + 1) * side)
    start = torch.maximum(pixel * cells, cell * side)
    return (end - start).clamp_min(0).float() / cells
