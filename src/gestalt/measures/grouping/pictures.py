"""Pictures of a grouping: image, groups, objects, legend.  H W pixels; Pillow only."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gestalt.evaluation.pictures import (
    class_colours,
    in_row,
    paint,
    pil_image,
    scale_to_panel,
    voc_colours,
)
from gestalt.evaluation.predictions import ScoredImage
from gestalt.measures.grouping.metric import BACKGROUND, best_overlaps
from gestalt.support.arrays import Pixels
from gestalt.support.label_values import IGNORE


def grouping_panels(scored: ScoredImage, *, candidates: int) -> Image.Image:
    """Draw image, groups, objects and a legend with the best IoU of each object; the caption has
    the image's Jaccard similarity.

    The group that covers an object best has its colour; the others have lighter colours of their
    own.  Overlapping masks are stacked, the best of each object on top; pixels in no mask show the
    image.

    Args:
        scored: groups (H, W) from 0 on, or (C, H, W) bool; objects 1..n on the background 0, which
            is black, ``IGNORE`` where not scored. Another size than the image's is allowed.
        candidates: n, the number of groups that are possible.
    """
    groups, instance = scored.prediction, scored.label
    overlaps = best_overlaps(groups, instance)
    objects = {value: inside / union for value, inside, union, _ in overlaps.tolist()}
    colours = class_colours(max([*objects, 1]) + 1, background=BACKGROUND)
    entries = [
        ("background" if value == BACKGROUND else f"object {value}", f"{iou:.2f}", colours[value])
        for value, iou in objects.items()
    ]
    panels = {
        "image": scale_to_panel(pil_image(scored.image), smooth=True),
        f"groups, of {candidates}": paint(
            scored.image,
            stacked(groups, overlaps=overlaps),
            colours=group_colours(overlaps, objects=colours),
        ),
        "objects": paint(scored.image, instance, colours=colours, void=True),
    }
    ious = [iou for value, iou in objects.items() if value != BACKGROUND]
    mean = f"Jaccard similarity of this image {np.mean(ious):.2f}" if ious else "no objects"
    return in_row(panels, entries=entries, caption=f"{scored.title}: {mean}")


def stacked(groups: Tensor, *, overlaps: Tensor) -> Tensor:
    """Flatten masks (C, H, W) bool to a map (H, W), those that cover an object best on top,
    ``IGNORE`` in no mask; keep a map.
    """
    if groups.dtype != torch.bool:
        return groups
    flat = torch.full(groups.shape[1:], IGNORE, dtype=torch.uint8)
    for group in [*range(len(groups)), *(group for _, group in _best_last(overlaps))]:
        flat[groups[group]] = group
    return flat


def group_colours(overlaps: Tensor, *, objects: Pixels) -> Pixels:
    """Return one colour per group, (IGNORE, 3): that of the object that it covers best, if no other
    group covers the object better.

    ``overlaps`` (K, 4) are those of ``best_overlaps``; ``objects`` (O, 3) has one colour per value
    of the instance map.
    """
    table = (voc_colours(IGNORE + len(objects))[len(objects) :] // 2 + 127).astype(np.uint8)
    for value, group in _best_last(overlaps):  # the best overwrites
        table[group] = objects[value]
    return table


def _best_last(overlaps: Tensor) -> list[tuple[int, int]]:
    """Return each object and its group, by rising IoU."""
    return [
        (value, group)
        for value, _, _, group in sorted(overlaps.tolist(), key=lambda row: row[1] / row[2])
    ]
