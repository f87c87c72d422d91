"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and
pictures.  N images, H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from gestalt.config.schema import ConfigError
from gestalt.evaluation.images import sizes_of
from gestalt.evaluation.pictures import (
    class_colours,
    in_row,
    paint,
    pil_image,
    scale_to_panel,
    voc_colours,
)
from gestalt.evaluation.predictions import ScoredImage
from gestalt.measures.callback import Baseline, Batch, Entry, Scorer
from gestalt.measures.context import Context
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.metric import (
    BACKGROUND,
    JaccardScore,
    JaccardSimilarity,
    best_overlaps,
)
from gestalt.measures.grouping.protocol import BottomUpProtocol
from gestalt.measures.measured import LeftOut, Measured
from gestalt.measures.segmentation.baselines import blocks, object_oracle
from gestalt.support.arrays import Floats, Pixels
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


class GroupMaps(Scorer):
    """Score the groups that come with the batches of one set, (H, W) uint8 from 0 on: numbers,
    baselines, pictures.

    The groups are another system's; a subclass makes its own.

    Args:
        name, options: as ``Scorer``.

    Attributes:
        baselines: those of each Jaccard similarity, as ``<benchmark>/jaccard_<baseline>``.
        groups: largest number of groups in an image; None before it is known.
    """

    measure = "grouping"
    needs: tuple[str, ...] = ("instance", "prediction")
    tag, suffix = "groups", "_groups"
    baselines: tuple[str, ...] = ("whole_image", "blocks")
    groups: int | None = None

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(
            name,
            metrics={key: JaccardSimilarity() for key in ("model", *self.baselines)},
            **options,
        )

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the groups of a batch."""
        predictions = batch["prediction"]
        counts = [int(groups.max()) + 1 for groups in predictions]
        self.groups = max(self.groups or 0, *counts)
        return self.count(predictions, truth, batch=batch, **partitions(truth, counts))

    def values(self, score: JaccardScore) -> dict[str, float]:
        """Return the similarity without and with the background, of the model and the baselines."""
        values = {}
        for key, counted in self.scores.items():
            suffix = "" if key == "model" else f"_{key}"
            values[f"jaccard{suffix}"] = counted.jaccard
            values[f"jaccard_with_background{suffix}"] = counted.jaccard_with_background
        return values

    def entry(self, score: JaccardScore) -> Entry:
        """Return the number of groups and of objects, and the pixel counts."""
        return {
            "ignored_pixels": score.ignored_pixels,
            "images_with_objects": score.images_with_objects,
            "objects": score.objects,
            "groups": self.groups,
            "counts": {
                key: counted.overlaps[:, 2:].sum(axis=0).tolist()
                for key, counted in self.scores.items()
            },
            "counts_rows": ["best intersections", "their unions"],
        }

    def arrays(self, score: JaccardScore) -> dict[str, Floats]:
        """Return the values of each image by metric, (N,), nan without objects."""
        return {
            "jaccard": score.image_jaccard,
            "jaccard_with_background": score.image_jaccard_with_background,
        }

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw image, groups and objects."""
        assert self.groups is not None
        return grouping_panels(shown, candidates=self.groups)


class Grouping(GroupMaps):
    """Group the images of one set by the image tower, and score the groups."""

    needs = ("instance",)
    baselines = ("whole_image", "blocks", "patch_oracle")  # the oracle takes each object by itself
    fixed = frozenset(baselines)
    protocol: BottomUpProtocol

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up as ``Scorer``; if attention heads are the groups, check that the tower has them
        before it trains.
        """
        super().setup(trainer, pl_module, stage)
        if self.protocol.method == "attention":
            model: Any = pl_module.model
            model.check_class_attention()

    def begin(self, model: Any, **embedding: Any) -> None:
        """Prepare as ``Scorer``, and fit the protocol to the model's patches."""
        super().begin(model, **embedding)
        self.protocol = self.protocol.fitted_to(model.patch_stride)

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Group a batch and count."""
        grouped = bottom_up(model, batch["image"], self.protocol, sizes_of(truth))
        # masks, one of each head, where the protocol has no number
        self.groups = self.protocol.groups or len(grouped[0].groups)
        return self.count(
            [image.groups for image in grouped],
            truth,
            batch=batch,
            **partitions(truth, [self.groups] * len(grouped)),
            patch_oracle=map(object_oracle, truth, [image.grid for image in grouped]),
        )


def partitions(truth: Sequence[Tensor], counts: Sequence[int]) -> dict[str, Baseline]:
    """Return the baselines without a model, of as many groups as ``counts`` in each image of a
    batch.
    """
    return {"whole_image": map(torch.zeros_like, truth), "blocks": map(blocks, truth, counts)}


def build(context: Context) -> Measured:
    """Build the scorer of a benchmark's groups, or the callback that reports that its files hold no
    objects.

    Raises:
        ConfigError: they hold none, and the config names a grouping protocol.
    """
    name, why = context.benchmark.name, context.image_set.no_instances
    chosen = context.chosen("grouping")
    if why is None:
        return context.scorer(Grouping)
    if chosen is not None:
        raise ConfigError(
            f"evaluation.grouping_protocol={chosen}: benchmark {name} has no objects, {why}; "
            "choose null to leave it out"
        )
    return LeftOut(name, measure="grouping", why=why)
