"""Jaccard similarity: the IoU of each object with the group that covers it best, from integer
counts of each object.  N images, H W pixels.

The score is the mean over an image's objects, then over images; sums are exact, so order and number
of ranks do not matter.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Floats, Ints
from gestalt.support.label_values import IGNORE

BACKGROUND = 0
"""The value of the background in an instance map."""

COUNTED = 256
"""Maps with values below this are counted directly; the values of others are numbered first, which
sorts the pixels.
"""

NO_OBJECT = -1
"""Value in the row of the image itself, which holds its ignored pixels and all its pixels."""


class JaccardScore(NamedTuple):
    """The result of ``JaccardSimilarity``, the same on every rank.

    An image without objects, or without labelled pixels, counts in neither mean.

    Attributes:
        jaccard: mean over images of the mean over their objects of the best IoU, [0, 1]; nan
            without any object.
        jaccard_with_background: the same with the background as one more object of each image that
            shows some.
        images: number of images seen.
        images_with_objects: number of images that count.
        objects: number of objects in them, the background not counted.
        ignored_pixels: number of pixels of the images seen that were not scored.
        image_jaccard: (N,) float64, the mean over the objects of each image seen, by ascending id;
            nan where it has none.
        image_jaccard_with_background: (N,) float64, likewise.
        overlaps: (M, 4) int64, an object or background a row: image id, value, pixels of the best
            intersection and of its union.
    """

    jaccard: float
    jaccard_with_background: float
    images: int
    images_with_objects: int
    objects: int
    ignored_pixels: int
    image_jaccard: Floats
    image_jaccard_with_background: Floats
    overlaps: Ints


def best_overlaps(groups: Tensor, instance: Tensor) -> Tensor:
    """Find the group that covers each object best, by IoU over the labelled pixels of one image.

    Args:
        groups: (H, W) integers from 0 on, one value per group; or (C, H, W) bool, masks that may
            overlap.
        instance: (H, W) integers: 0 background, 1..n objects, ``IGNORE`` void.

    Returns:
        (K, 4) int64 on the CPU, by ascending value, background too: value, pixels of the best
        intersection and of its union, the group. Ties go to the larger intersection, then to the
        first group.

    Raises:
        ValueError: the shapes differ, a value is negative or not an integer, or there are no
            groups.
    """
    if groups.shape[-2:] != instance.shape or groups.dim() != (
        3 if groups.dtype == torch.bool else 2
    ):
        raise ValueError(
            f"the groups are {groups.dtype} {tuple(groups.shape)}, the objects "
            f"{tuple(instance.shape)}; "
            "groups must have the label's size, as integers (H, W) or bool (C, H, W)"
        )
    for name, value in (("groups", groups), ("objects", instance)):
        if (
            value.is_floating_point()
            or value.is_complex()
            or (value.dtype != torch.bool and value.numel() and int(value.min()) < 0)
        ):
            raise ValueError(
                f"the {name} must be integers of at least 0, got {value.dtype} with minimum "
                f"{value.min()}"
            )
    values, row = _numbered(instance)
    size = torch.bincount(row, minlength=len(values)).masked_fill_(values == IGNORE, 0).cpu()
    objects = size.nonzero()[:, 0]
    if not len(objects):
        return torch.zeros(0, 4, dtype=torch.int64)
    if not len(groups):
        raise ValueError("no groups, at least one is needed to cover an object")
    names, inside = _inside(groups, row, values=len(values), objects=objects)
    union = size[objects].unsqueeze(1) + inside.sum(dim=0) - inside
    iou = inside.double() / union
    best = torch.where(iou == iou.amax(dim=1, keepdim=True), inside, -1).argmax(dim=1, keepdim=True)
    return torch.column_stack(
        [values.cpu()[objects], inside.gather(1, best), union.gather(1, best), names[best]]
    )


def _numbered(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return ascending values (n,) int64 that include all those of a map, and, flat, the position
    of each pixel's value among them.
    """
    flat = values.flatten().long()
    highest = int(flat.max()) if len(flat) else -1
    if highest < COUNTED:
        return torch.arange(highest + 1, device=values.device), flat
    names, position = torch.unique(flat, return_inverse=True)
    return names, position


def _inside(groups: Tensor, row: Tensor, *, values: int, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Return the names (C,) of the groups and their pixels in each object, (K, C), on the CPU.

    Args:
        groups: (H, W), or (C, H, W) bool.
        row: (H * W,) each pixel's position among the values of the instance map.
        values: the number of these.
        objects: (K,) the positions that are objects, on the CPU.
    """
    if groups.dtype == torch.bool:
        doubled = 2 * row
        counts = [
            torch.bincount(doubled + mask.flatten(), minlength=2 * values)[1::2] for mask in groups
        ]
        return torch.arange(len(groups)), torch.stack(counts, dim=1).cpu()[objects]
    names, column = _numbered(groups)
    pairs = torch.bincount(row * len(names) + column, minlength=values * len(names))
    inside = pairs.cpu().reshape(values, len(names))[objects]
    present = inside.any(dim=0)
    return names.cpu()[present], inside[:, present]


def _means(overlaps: Ints, *, ids: Ints) -> Floats:
    """Compute the mean IoU of each image's rows, nan where it has none.  overlaps (M, 4) sorted by
    image; returns (N,).
    """
    iou = overlaps[:, 2] / overlaps[:, 3]
    edges = np.searchsorted(overlaps[:, 0], np.append(ids, np.iinfo(np.int64).max))
    return np.array([_mean(iou[start:end]) for start, end in pairwise(edges)], dtype=np.float64)


def _mean(values: Floats) -> float:
    """Order-independent mean: the sum is rounded once; nan of no values."""
    return math.fsum(values.tolist()) / len(values) if len(values) else math.nan


class JaccardSimilarity(ImageMetric):
    """Best IoU over an image's groups of each of its objects, averaged over objects and then over
    images.

    The state is a list of (m, 4) int64 rows: image id, value, intersection, union for each object
    and the background, and one row with ``NO_OBJECT`` for each image.

    Raises:
        ValueError: as ``best_overlaps``, with the sample's id.

    Source: the authors of DINO (facebookresearch/dino#54) and of GroupViT (NVlabs/GroupViT#34) on
    how they score.
    """

    def __init__(self) -> None:
        super().__init__(4)

    def rows_of(self, prediction: Tensor, label: Tensor, index: int) -> Tensor:
        """Count the groups, (H, W), or (C, H, W) bool for masks that may overlap, of an image with
        objects (H, W).
        """
        overlaps = functional.pad(best_overlaps(prediction, label)[:, :3], (1, 0), value=index)
        whole = [index, NO_OBJECT, int((label == IGNORE).sum()), label.numel()]
        return torch.cat([overlaps.new_tensor([whole]), overlaps])

    def compute(self) -> JaccardScore:
        """Compute the set's score over all ranks: divide, average."""
        rows = self.unique_rows(key=2)
        ids = np.unique(rows[:, 0])
        overlaps = rows[rows[:, 1] != NO_OBJECT]
        objects = overlaps[overlaps[:, 1] != BACKGROUND]
        image = _means(objects, ids=ids)
        counted = ~np.isnan(image)
        with_background = np.where(counted, _means(overlaps, ids=ids), np.nan)
        return JaccardScore(
            jaccard=_mean(image[counted]),
            jaccard_with_background=_mean(with_background[counted]),
            images=len(ids),
            images_with_objects=int(counted.sum()),
            objects=len(objects),
            ignored_pixels=int(rows[rows[:, 1] == NO_OBJECT, 2].sum()),
            image_jaccard=image,
            image_jaccard_with_background=with_background,
            overlaps=overlaps,
        )
