"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and
pictures.  N images, H W pixels.

The Jaccard similarity is the IoU of each object with the group that covers it best, from integer
counts of each object.  The score is the mean over an image's objects, then over images; sums are
exact, so order and number of ranks do not matter.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Baseline, Batch, RecordedCallback, Scorer, SkippedMeasure
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.images import sizes_of
from gestalt.measures.evaluation.pictures import (
    ScoredImage,
    class_colours,
    in_row,
    paint,
    pil_image,
    scale_to_panel,
    voc_colours,
)
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import BottomUpProtocol
from gestalt.measures.rows import ImageMetric
from gestalt.measures.segmentation.baselines import blocks, object_oracle
from gestalt.support.arrays import Floats, Ints, Pixels
from gestalt.support.devices import on_host
from gestalt.support.label_values import IGNORE
from gestalt.support.typed import ConfigError

BACKGROUND = 0
"""The value of the background in an instance map."""

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
        (K, 4) int64, by ascending value, background too: value, pixels of the best intersection and
        of its union, the group. Ties go to the larger intersection, then to the first group.

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
        if value.is_floating_point() or value.is_complex() or bool((value < 0).any()):
            raise ValueError(
                f"the {name} must be integers of at least 0, got {value.dtype} with minimum "
                f"{value.min()}"
            )
    row = instance.flatten().long()
    size = torch.bincount(row)
    size[IGNORE : IGNORE + 1] = 0
    objects = size.nonzero()[:, 0]
    if not len(objects):
        return torch.zeros(0, 4, dtype=torch.int64)
    if not len(groups):
        raise ValueError("no groups, at least one is needed to cover an object")
    if groups.dtype == torch.bool:
        counts = [torch.bincount(row[mask.flatten()], minlength=len(size)) for mask in groups]
        inside = torch.stack(counts, dim=1)
    else:
        column = groups.flatten().long()
        width = int(column.max()) + 1
        pairs = torch.bincount(row * width + column, minlength=len(size) * width)
        inside = pairs.reshape(-1, width)
    size, inside = size[objects].unsqueeze(1), inside[objects]
    union = size + inside.sum(dim=0) - inside
    iou = inside.double() / union
    best = torch.where(iou == iou.amax(dim=1, keepdim=True), inside, -1).argmax(dim=1, keepdim=True)
    return torch.column_stack([objects, inside.gather(1, best), union.gather(1, best), best])


def _means(overlaps: Ints, ids: Ints) -> Floats:
    """Compute the mean IoU of each image's rows, nan where it has none.  overlaps (M, 4) sorted by
    image; returns (N,).
    """
    of_images = np.split(overlaps[:, 2] / overlaps[:, 3], np.searchsorted(overlaps[:, 0], ids))[1:]
    return np.array([_mean(iou) for iou in of_images], dtype=np.float64)


def _mean(values: Floats) -> float:
    """Order-independent mean: the sum is rounded once; nan of no values."""
    return math.fsum(values.tolist()) / len(values) if len(values) else math.nan


class JaccardSimilarity(ImageMetric):
    """Best IoU over an image's groups of each of its objects, averaged over objects and then over
    images.

    The state is a list of (m, 4) int64 rows: image id, value, intersection, union for each object
    and the background, and one row with ``NO_OBJECT`` for each image.

    Raises:
        ValueError: groups of another size than the objects, negative or no integers, or none at
            all; names the sample's id.

    Source: the authors of DINO (facebookresearch/dino#54) and of GroupViT (NVlabs/GroupViT#34) on
    how they score.
    """

    def rows_of(
        self, predictions: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[int]
    ) -> Tensor:
        """Count the groups of a batch, (H, W), or (C, H, W) bool for masks that may overlap, of
        images with objects (H, W); all on the CPU.
        """
        rows = []
        for prediction, label, index in zip(predictions, labels, ids, strict=True):
            try:
                overlaps = best_overlaps(prediction, label)[:, :3]
            except ValueError as error:
                raise ValueError(f"sample {index}: {error}") from error
            whole = [index, NO_OBJECT, int((label == IGNORE).sum()), label.numel()]
            rows += [torch.tensor([whole]), functional.pad(overlaps, (1, 0), value=index)]
        return torch.cat(rows)

    def compute(self) -> JaccardScore:
        """Compute the set's score over all ranks: divide, average."""
        rows = self.unique_rows(key=2)
        ids = np.unique(rows[:, 0])
        overlaps = rows[rows[:, 1] != NO_OBJECT]
        objects = overlaps[overlaps[:, 1] != BACKGROUND]
        image = _means(objects, ids)
        counted = ~np.isnan(image)
        with_background = np.where(counted, _means(overlaps, ids), np.nan)
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


def painted_groups(groups: Tensor, overlaps: Tensor, objects: Pixels) -> tuple[Tensor, Pixels]:
    """Return a map (H, W) of the groups, and one colour per group, (IGNORE, 3): that of the object
    that it covers best, if no other group covers the object better.

    Args:
        groups: a map, or masks (C, H, W) bool, which are stacked: those that cover an object best
            on top, ``IGNORE`` in no mask.
        overlaps: (K, 4), those of ``best_overlaps``.
        objects: (O, 3), one colour per value of the instance map.
    """
    table = (voc_colours(IGNORE + len(objects))[len(objects) :] // 2 + 127).astype(np.uint8)
    order = list(range(len(groups)))
    for value, _, _, group in sorted(overlaps.tolist(), key=lambda row: row[1] / row[2]):
        table[group] = objects[value]  # the best overwrites
        order.append(group)
    if groups.dtype == torch.bool:
        flat = torch.full(groups.shape[1:], IGNORE, dtype=torch.uint8)
        for group in order:
            flat[groups[group]] = group
        groups = flat
    return groups, table


class GroupMaps(Scorer):
    """Score the groups that come with the batches of one set, (H, W) uint8 from 0 on: numbers,
    baselines, pictures.

    The groups are another system's; a subclass makes its own.

    Args:
        context: what it is built from.

    Attributes:
        baselines: those of each Jaccard similarity, as ``<benchmark>/jaccard_<baseline>``.
        groups: largest number of groups in an image; None before it is known.
    """

    measure = "grouping"
    needs: tuple[str, ...] = ("instance", "prediction")
    tag, suffix = "groups", "_groups"
    baselines: tuple[str, ...] = ("whole_image", "blocks")
    groups: int | None = None

    def __init__(self, context: Context) -> None:
        metrics = {key: JaccardSimilarity() for key in ("model", *self.baselines)}
        super().__init__(context, metrics=metrics)

    def truth(self, batch: Batch) -> list[Tensor]:
        """Return the objects of a batch, on the CPU, where groups are counted."""
        return on_host(*super().truth(batch))

    def score(self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the groups of a batch."""
        predictions = on_host(*batch["prediction"])
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
        """Draw image, groups, objects and a legend with the best IoU of each object; the caption
        has the image's Jaccard similarity.

        The group that covers an object best has its colour; the others have lighter colours of
        their own.  Overlapping masks are stacked, the best of each object on top; pixels in no mask
        show the image.
        """
        groups, instance = shown.prediction, shown.label
        overlaps = best_overlaps(groups, instance)
        objects = {value: inside / union for value, inside, union, _ in overlaps.tolist()}
        colours = class_colours(max([*objects, 1]) + 1, background=BACKGROUND)
        entries = [
            (
                "background" if value == BACKGROUND else f"object {value}",
                f"{iou:.2f}",
                colours[value],
            )
            for value, iou in objects.items()
        ]
        flat, of_groups = painted_groups(groups, overlaps, objects=colours)
        panels = {
            "image": scale_to_panel(pil_image(shown.image), smooth=True),
            f"groups, of {self.groups}": paint(shown.image, flat, colours=of_groups),
            "objects": paint(shown.image, instance, colours=colours, void=True),
        }
        ious = [iou for value, iou in objects.items() if value != BACKGROUND]
        mean = f"Jaccard similarity of this image {np.mean(ious):.2f}" if ious else "no objects"
        return in_row(panels, entries=entries, caption=f"{shown.title}: {mean}")


class Grouping(GroupMaps):
    """Group the images of one set by the image tower, and score the groups."""

    needs = ("instance",)
    baselines = ("whole_image", "blocks", "patch_oracle")  # the oracle takes each object by itself
    fixed = frozenset(baselines)
    protocol: BottomUpProtocol

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up, and fit the protocol to the model's patches; if attention heads are the groups,
        check that the tower has them before it trains.
        """
        super().setup(trainer, pl_module, stage)
        model: Any = pl_module.model
        self.protocol = self.protocol.fitted_to(model.patch_stride)
        if self.protocol.method == "attention":
            model.check_class_attention()

    def score(self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
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


def build(context: Context) -> RecordedCallback:
    """Build the scorer of a benchmark's groups, or the callback that reports that its files hold no
    objects.

    Raises:
        ConfigError: they hold none, and the configuration names a grouping protocol.
    """
    name, why = context.benchmark.name, context.image_set.no_instances
    chosen = context.evaluation.grouping_protocol
    if why is None:
        return Grouping(context)
    if chosen is not None:
        raise ConfigError(
            f"evaluation.grouping_protocol={chosen}: benchmark {name} has no objects, {why}; "
            "choose null to leave it out"
        )
    return SkippedMeasure(name, measure="grouping", why=why)
