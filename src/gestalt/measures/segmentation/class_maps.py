"""Class maps of one image set: counted, drawn and recorded, whatever predicts them; the mean IoU
from integer counts of each image, and the images that are segmented best and worst, kept with their
predictions for a report.  N samples, C classes, H W pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.callback import Baseline, Batch, RecordedCallback, Scorer
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.confusion import (
    MaskScore,
    image_miou,
    labelled_pixels,
    mask_entry,
    mask_values,
)
from gestalt.measures.evaluation.pictures import pil_image, segmentation_panels, write_maps
from gestalt.measures.evaluation.predictions import Predictions, ScoredImage, write_predictions
from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Floats, Ints
from gestalt.support.label_values import MAX_CLASSES, PADDING
from gestalt.support.ranks import objects_on_first
from gestalt.training.board import log_folders

PER_END = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs
neither the model nor the data.
"""

MAX_LONG_SIDE = 512
"""Pixels: the longer side of an image that is kept for a report."""


def best_and_worst(iou: Floats, ids: Ints) -> tuple[list[int], list[int]]:
    """Return the positions of the best images, highest first, and of the worst, lowest first; no
    image is in both, nan in neither.

    There are ``PER_END`` at each end; of fewer than twice as many images the best get the larger
    half.  Among equal values the lower id comes first.

    Args:
        iou: (N,) of each image.
        ids: (N,) of the images, all different.
    """
    valued = np.flatnonzero(~np.isnan(iou))
    falling, rising = (
        valued[np.lexsort((ids[valued], sign * iou[valued]))].tolist() for sign in (-1, 1)
    )
    best = falling[: min(PER_END, (len(falling) + 1) // 2)]
    return best, [position for position in rising if position not in best][:PER_END]


Extremes = dict[int, tuple[float, ScoredImage]]
"""The best and the worst images so far, each with its mean IoU, by id."""


def add_extreme(extremes: Extremes, shown: ScoredImage, iou: float) -> Extremes:
    """Return the images with one more; of more than ``2 * PER_END``, only the best and the worst
    ``PER_END``, none without a mean IoU.
    """
    extremes = {**extremes, shown.sample_id: (iou, shown)}
    ids = np.array(list(extremes))
    best, worst = best_and_worst(np.array([value for value, _ in extremes.values()]), ids)
    return {index: extremes[index] for index in ids[best + worst].tolist()}


def write_extremes(folder: Path, scorers: Iterable[RecordedCallback]) -> None:
    """Write the predictions of every scorer to ``<folder>/<benchmark>.npz``, images
    reduced to ``MAX_LONG_SIDE``.
    """
    for scorer in scorers:
        predictions = scorer.predictions()
        if predictions is not None:
            reduced = predictions._replace(images=tuple(map(_reduced, predictions.images)))
            write_predictions(folder / f"{scorer.name}.npz", reduced)


def _reduced(scored: ScoredImage) -> ScoredImage:
    """Reduce an image for a picture: the photograph smoothly, the masks by the nearest pixel."""
    height, width = scored.label.shape
    factor = min(1.0, MAX_LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.asarray(pil_image(scored.image).resize(size, Image.Resampling.BICUBIC))
    prediction, label = (
        np.asarray(Image.fromarray(mask.numpy()).resize(size, Image.Resampling.NEAREST))
        for mask in (scored.prediction, scored.label)
    )
    return scored._replace(image=image.transpose(2, 0, 1), prediction=prediction, label=label)


ROW = 5
"""Integers of a row of counts: the image's id, a class, and its pixels of intersection, prediction
and truth in the image.
"""

OF_IMAGE = -1
"""In place of a class in the row of the image itself, which holds its ignored pixels."""


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C +
    1), the last column without a class.

    Attributes:
        rows: (m, ``ROW``) int64, the counts of the classes that occur in each image's truth or
            prediction, a few of many.
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    rows: Ints
    ignored_pixels: int

    @cached_property
    def image_counts(self) -> Ints:
        """(N, 3, C) int64, the counts of each image, for paired intervals over images; made of the
        rows when they are first asked for.
        """
        return dense_counts(self.rows, sample_id=self.sample_id, classes=len(self.confusion))


def dense_counts(rows: Ints, *, sample_id: Ints, classes: int) -> Ints:
    """Return the counts (N, 3, C) of the images with these ids, which rise, from rows of classes
    and of images.
    """
    counts = np.zeros((len(sample_id), 3, classes), dtype=np.int64)
    rows = rows[rows[:, 1] != OF_IMAGE]
    counts[np.searchsorted(sample_id, rows[:, 0]), :, rows[:, 1]] = rows[:, 2:]
    return counts


class MeanIoU(ImageMetric):
    """Mean intersection over union of a whole set, over its classes.

    States are a list of (m, ``ROW``) int64 rows, one for each class that occurs in an image's truth
    or prediction and one with ``OF_IMAGE`` for each image, and one (C, C) int64 matrix, which
    counts each image once and no padding.  The memory of an image's counts grows with the classes
    in it, not with C.

    Args:
        classes: C, 2 to ``MAX_CLASSES``.
        unnamed: True if predicted pixels may have no class, the ``ignored_value`` of C: they count
            in the union of their true class, and the matrix is (C, C + 1).

    Raises:
        ValueError: a prediction of another size than its label, or a value that is no class; names
            the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    confusion: Tensor

    def __init__(self, classes: int, *, unnamed: bool = False) -> None:
        super().__init__(ROW)
        if not 2 <= classes <= MAX_CLASSES:
            raise ValueError(
                f"{classes} classes: a segmentation has 2 to {MAX_CLASSES}, since its confusion "
                "matrix is kept whole"
            )
        self.classes = classes
        self.unnamed = unnamed
        self.add_state(
            "confusion",
            default=torch.zeros(classes, classes + unnamed, dtype=torch.int64),
            dist_reduce_fx="sum",
        )
        self._seen = {PADDING}

    def rows_of(self, prediction: Tensor, label: Tensor, index: int) -> Tensor:
        """Count an image; ``label`` is (H, W) with the ``ignored_value`` of C."""
        truth, named = labelled_pixels(
            prediction, label, classes=self.classes, unnamed=self.unnamed
        )
        if index not in self._seen:
            cells = (truth * self.confusion.shape[1] + named).to(self.device)
            self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self._seen.add(index)
        hits = (2 * truth + (truth == named)).bincount(minlength=2 * self.classes).view(-1, 2)
        predicted = named.bincount(minlength=self.classes)[: self.classes]
        counts = torch.stack([hits[:, 1], predicted, hits.sum(dim=1)])
        present = counts[1:].any(dim=0).nonzero()[:, 0]
        rows = torch.column_stack([torch.full_like(present, index), present, counts.T[present]])
        ignored = label.numel() - len(truth)
        return torch.cat([rows.new_tensor([[index, OF_IMAGE, ignored, 0, 0]]), rows])

    def reset(self) -> None:
        """Reset the counts, and the ids that were seen."""
        super().reset()
        self._seen = {PADDING}

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks.

        Raises:
            RuntimeError: the matrix and the images count different pixels: two ranks scored one
                image.
        """
        rows = self.unique_rows(key=2)
        of_image = rows[:, 1] == OF_IMAGE
        images, classes = rows[of_image], rows[~of_image]
        counts = np.zeros((3, self.classes), dtype=np.int64)
        np.add.at(counts.T, classes[:, 1], classes[:, 2:])
        confusion = self.confusion.cpu().numpy().copy()
        predicted = confusion.sum(axis=0)[: self.classes]
        if not np.array_equal([confusion.diagonal(), predicted, confusion.sum(axis=1)], counts):
            raise RuntimeError(
                "the confusion matrix and the images' counts differ: an image was scored by two "
                "ranks; deal each to one"
            )
        return SegmentationScore(
            sample_id=images[:, 0],
            confusion=confusion,
            counts=counts,
            rows=classes,
            ignored_pixels=int(images[:, 2].sum()),
        )


class ClassMaps(Scorer):
    """Score the class maps that come with the batches of one set: numbers, baselines, pictures, the
    best and the worst images.

    The maps are another system's predictions; a subclass predicts its own.

    Args:
        context: what it is built from.
        labels: the classes; by default those of the benchmark's label set.
        options: further ones of ``Scorer``.

    Attributes:
        baselines: those of each mIoU, as ``<benchmark>/miou_<baseline>``; that of constant
            background only where there is such a class.
        unnamed: True if a predicted pixel may have no class.
        folder: the predicted maps are written to it; None to write none.
    """

    measure = "segmentation"
    needs: tuple[str, ...] = ("labels", "prediction")
    tag = "pictures"
    baselines: tuple[str, ...] = ("constant_background",)
    unnamed = True
    labels: LabelSet
    folder: Path | None = None

    def __init__(self, context: Context, *, labels: LabelSet | None = None, **options: Any) -> None:
        labels = labels or context.labels
        if labels.background is None:
            self.baselines = tuple(key for key in self.baselines if key != "constant_background")
        metrics = {
            key: MeanIoU(len(labels.names), unnamed=self.unnamed)
            for key in ("model", *self.baselines)
        }
        super().__init__(context, metrics=metrics, labels=labels, **options)
        self._extremes: Extremes = {}

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the predictions of a batch."""
        return self.count(batch["prediction"], truth, batch=batch)

    def count(
        self,
        predictions: list[Tensor],
        truth: Sequence[Tensor],
        batch: Batch,
        **baselines: Baseline,
    ) -> list[Tensor]:
        """Count the predictions and the baselines of a batch, and keep the best and the worst
        images.  Returns the predictions.
        """
        classes, background = len(self.labels.names), self.labels.background
        if self.folder is not None:
            write_maps(self.folder, batch, predictions, classes=classes, background=background)
        if background is not None:
            baselines["constant_background"] = (torch.full_like(mask, background) for mask in truth)
        super().count(predictions, truth, batch=batch, **baselines)
        rows: list[Tensor] = self.metrics["model"].rows  # type: ignore[assignment]
        counted = zip(batch["sample_id"].cpu().numpy(), rows[-len(truth) :], strict=True)
        for position, (index, counts) in enumerate(counted):
            if index != PADDING:
                one = dense_counts(
                    counts.cpu().numpy(), sample_id=index[None], classes=len(self.labels.names)
                )
                shown = ScoredImage.of(batch, position, predictions, truth)
                self._extremes = add_extreme(self._extremes, shown, iou=float(image_miou(one)[0]))
        return predictions

    def begin(self, model: Any, **embedding: Any) -> None:
        """Prepare an evaluation, and drop the extremes of the last one."""
        super().begin(model, **embedding)
        self._extremes = {}

    def gather(self) -> None:
        """Gather the best and the worst images of all ranks on the first; the others drop
        theirs.
        """
        parts = objects_on_first(self._extremes)
        self._extremes = {}
        for extremes in parts:
            self._extremes |= extremes

    def values(self, score: SegmentationScore) -> dict[str, float]:
        """Return the scores of the model and the baselines, and each class's IoU."""
        return mask_values(self.labels.names, self.scores)

    def entry(self, score: SegmentationScore) -> Entry:
        """Return the counts of the model and the baselines, the best and worst images, and the
        pixels without a class.
        """
        entry: Entry = {"ignored_pixels": score.ignored_pixels, **mask_entry(self.scores)}
        if self.labels.background is not None:
            entry["constant_class"] = self.labels.background
        entry |= self._ends()
        if self.unnamed:
            entry["unnamed_pixels"] = int(score.confusion[:, -1].sum())
        return entry

    def _ends(self) -> Entry:
        """Return id and mean IoU of the best and the worst images, the same on every rank."""
        score = self.scores["model"]
        iou = image_miou(score.image_counts)
        best, worst = (
            [{"sample_id": int(score.sample_id[row]), "iou": float(iou[row])} for row in rows]
            for rows in best_and_worst(iou, score.sample_id)
        )
        return {"best_images": best, "worst_images": worst}

    def predictions(self) -> Predictions | None:
        """Return the best images and then the worst; on the first rank, and None before the first
        evaluation.
        """
        if not self.scores or not self._extremes:
            return None
        ends_of_set = [image["sample_id"] for images in self._ends().values() for image in images]
        return self._as_arrays([self._extremes[index][1] for index in ends_of_set])

    def _as_arrays(self, images: Sequence[ScoredImage]) -> Predictions:
        """Return images with their class names, to be written."""
        return Predictions(tuple(self.labels.names), self.labels.background, images=tuple(images))

    def arrays(self, score: SegmentationScore) -> dict[str, Ints]:
        """Return the counts of each image, and the confusion matrix of the set.

        ``counts``: (N, 3, C) pixels of intersection, prediction and truth.
        ``confusion``: (C, C) pixels of the set, or (C, C + 1); truth by prediction.
        """
        return {"counts": score.image_counts, "confusion": score.confusion}

    def draw(self, trainer: Trainer, shown: Sequence[ScoredImage]) -> None:
        """Write the pictures, and the arrays that they were drawn from."""
        for folder in log_folders(trainer):
            write_predictions(folder / "predictions" / f"{self.name}.npz", self._as_arrays(shown))
        super().draw(trainer, shown=shown)

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw image, prediction and truth."""
        return segmentation_panels(shown, self.labels.names, self.labels.background)
