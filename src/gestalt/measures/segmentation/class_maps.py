"""Class maps of one image set: counted, drawn and recorded, whatever predicts them; the mean IoU
from integer counts of each image, and the images that are segmented best and worst, kept with their
predictions for a report.  N samples, C classes, H W pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

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
    mask_entry,
    mask_values,
)
from gestalt.measures.evaluation.pictures import (
    Predictions,
    ScoredImage,
    class_colours,
    map_image,
    pil_image,
    segmentation_panels,
    write_predictions,
)
from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Ints
from gestalt.support.devices import bin_counts, occurring, on_host, ranks_among
from gestalt.support.files import replacing
from gestalt.support.label_values import MAX_CLASSES, PADDING, ignored_value
from gestalt.support.ranks import objects_of_ranks, objects_on_first
from gestalt.training.board import log_folders

PER_END = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs
neither the model nor the data.
"""

MAX_LONG_SIDE = 512
"""Pixels: the longer side of an image that is kept for a report."""


def best_and_worst(iou: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """Return the ids of the best images, highest first, and of the worst, lowest first; no image is
    in both, nan in neither.

    There are ``PER_END`` at each end; of fewer than twice as many images the best get the larger
    half.  Among equal values the lower id comes first.

    Args:
        iou: of each image by its id.
    """
    valued = sorted(index for index, value in iou.items() if value == value)  # nan is not
    best = sorted(valued, key=iou.__getitem__, reverse=True)
    best = best[: min(PER_END, (len(valued) + 1) // 2)]
    worst = [index for index in sorted(valued, key=iou.__getitem__) if index not in best]
    return best, worst[:PER_END]


Extremes = dict[int, tuple[float, ScoredImage]]
"""The best images so far and then the worst, each with its mean IoU, by id."""


def extremes_of(images: Extremes) -> Extremes:
    """Return the best images and then the worst; none without a mean IoU."""
    best, worst = best_and_worst({index: iou for index, (iou, _) in images.items()})
    return {index: images[index] for index in best + worst}


def write_extremes(folder: Path, scorers: Iterable[RecordedCallback]) -> None:
    """Write the predictions of every scorer to ``<folder>/<benchmark>.npz``, images
    reduced to ``MAX_LONG_SIDE``.
    """
    for scorer in scorers:
        predictions = scorer.predictions() if isinstance(scorer, ClassMaps) else None
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


OF_IMAGE = -1
"""In place of a class in the row of the image itself, which holds its labelled and its ignored
pixels.
"""


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C +
    1), the last column without a class.

    Attributes:
        sample_id: (N,) int64, ascending.
        confusion: int64, labelled pixels of the set, by truth and prediction.
        rows: (m, 4) int64, those of ``MeanIoU`` without the images' own; C or -1 is no class.
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    sample_id: Ints
    confusion: Ints
    rows: Ints
    ignored_pixels: int

    @property
    def images(self) -> int:
        """The number of images that were counted."""
        return len(self.sample_id)

    @cached_property
    def image_counts(self) -> Ints:
        """(N, 3, C) int64, the counts of each image, for paired intervals over images; made of the
        rows when they are first asked for.
        """
        image = np.searchsorted(self.sample_id, self.rows[:, 0])
        return class_counts(self.rows, image, images=self.images, classes=self.counts.shape[1])

    def predicted_as(self, classes: Ints) -> "SegmentationScore":
        """Return the score of the same images where class c, as predicted, is ``classes[c]``."""
        rows = self.rows.copy()
        rows[:, 2] = classes[rows[:, 2]]
        return replace(
            self,
            rows=rows,
            counts=set_counts(rows, self.counts.shape[1]),
            confusion=confusion_of(rows, self.confusion.shape),
        )


def confusion_of(rows: Ints, shape: tuple[int, ...]) -> Ints:
    """Sum rows into a confusion matrix, truth by prediction."""
    confusion = np.zeros(shape, dtype=np.int64)
    np.add.at(confusion, (rows[:, 1], rows[:, 2]), rows[:, 3])
    return confusion


def set_counts(rows: Ints, classes: int) -> Ints:
    """Sum rows into the counts of the set, (3, C)."""
    return class_counts(rows, np.zeros_like(rows[:, 0]), images=1, classes=classes)[0]


def class_counts(rows: Ints, image: Ints, *, images: int, classes: int) -> Ints:
    """Sum rows into the counts of images, (N, 3, C); ``image`` is the position of each row's."""
    counts = np.zeros((images, 3, classes + 1), dtype=np.int64)
    _, truth, predicted, pixels = rows.T
    np.add.at(counts[:, 0], (image, truth), pixels * (truth == predicted))
    np.add.at(counts[:, 1], (image, predicted), pixels)
    np.add.at(counts[:, 2], (image, truth), pixels)
    return counts[..., :classes]


class Slots(NamedTuple):
    """The classes of the pixels of one map.

    Attributes:
        values: (H, W) int32, a class in [0, C), C for a pixel without one, C + 1 for a wrong value.
        occurs: (C + 2,) bool, the values that occur.
    """

    values: Tensor
    occurs: Tensor

    @classmethod
    def of(cls, classes: Tensor, count: int, *, without: Tensor) -> "Slots":
        """Take a map of ``count`` classes; ``without`` is where a pixel has none."""
        classes = classes.int()
        right = (classes >= 0) & (classes < count)
        values = torch.where(right, classes, count + 1).masked_fill_(without, count)
        return cls(values, occurring(values, count + 2))

    @property
    def wrong(self) -> int:
        """The value of a pixel whose class does not exist."""
        return len(self.occurs) - 1

    def ranks(self) -> Tensor:
        """Return the position of each pixel's value among those that occur, (H, W) int64."""
        return ranks_among(self.values, self.occurs)


class MeanIoU(ImageMetric):
    """Mean intersection over union of a whole set, over its classes.

    The state is a list of (m, 4) int64 rows: the image's id, a true class, a predicted one, and the
    pixels of the image that have both, for each pair of classes that occurs in it, and one with
    ``OF_IMAGE`` for each image: the memory of an image's counts grows with the classes in it, not
    with C.

    Args:
        classes: C, 2 to ``MAX_CLASSES``.
        clusters: K, if predictions are clusters and not classes.
        unnamed: True if predicted pixels may have no class, the ``ignored_value`` of C: they count
            in the union of their true class, and the matrix is (C, C + 1).

    Raises:
        ValueError: a prediction of another size than its label, or a value that is no class; names
            the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    def __init__(self, classes: int, *, clusters: int | None = None, unnamed: bool = False) -> None:
        super().__init__()
        if not 2 <= classes <= MAX_CLASSES:
            raise ValueError(
                f"{classes} classes: a segmentation has 2 to {MAX_CLASSES}, since its confusion "
                "matrix is kept whole"
            )
        self.classes = classes
        self.predicted = clusters or classes
        self.unnamed = unnamed

    def rows_of(
        self, predictions: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[int]
    ) -> Tensor:
        """Count the images of a batch; labels are (H, W) with the ``ignored_value`` of C.

        The host waits for a device twice: for the classes of all images, and for the pixels of each
        pair of classes.
        """
        ignored = ignored_value(self.classes)
        maps: list[Slots] = []  # those of truth and prediction in turn
        for prediction, label, index in zip(predictions, labels, ids, strict=True):
            if prediction.shape != label.shape:
                raise ValueError(
                    f"sample {index}: the prediction is {tuple(prediction.shape)}, its label "
                    f"{tuple(label.shape)}; a prediction must have its label's size"
                )
            not_scored = label == ignored
            nameless = not_scored | (prediction == ignored) if self.unnamed else not_scored
            maps += [
                Slots.of(label, self.classes, without=not_scored),
                Slots.of(prediction, self.predicted, without=nameless),
            ]
        found = [occurs.nonzero()[:, 0] for occurs in on_host(*(part.occurs for part in maps))]
        images = list(zip(ids, maps[::2], maps[1::2], found[::2], found[1::2], strict=True))
        for number, (index, truth, predicted, truths, named) in enumerate(images):
            for name, values, slots, present in (
                ("prediction", predictions[number], predicted, named),
                ("label", labels[number], truth, truths),
            ):
                if slots.wrong in present:
                    value = int(values[slots.values == slots.wrong][0])
                    raise ValueError(
                        f"sample {index}: the {name} holds {value}, expected 0 to "
                        f"{slots.wrong - 2} ({ignored} in a label is ignored)"
                    )
        counts = on_host(
            *(
                bin_counts(
                    truth.ranks() * len(named) + predicted.ranks(), len(truths) * len(named)
                ).reshape(len(truths), len(named))
                for _, truth, predicted, truths, named in images
            )
        )
        return torch.cat(
            [
                self._rows_of_image(index, pixels, truths, named)
                for pixels, (index, _, _, truths, named) in zip(counts, images, strict=True)
            ]
        )

    def _rows_of_image(self, index: int, pixels: Tensor, truths: Tensor, named: Tensor) -> Tensor:
        """Return the rows of an image, from the pixels (t, p) of the values that occur in truth
        (t,) and prediction (p,).
        """
        scored = truths < self.classes
        ignored, pixels = pixels[~scored].sum(), pixels[scored]
        row, column = pixels.nonzero().T
        pairs = [torch.full_like(row, index), truths[row], named[column], pixels[row, column]]
        whole = torch.tensor([[index, OF_IMAGE, int(pixels.sum()), int(ignored)]])
        return torch.cat([whole, torch.stack(pairs, dim=1)])

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks.

        Raises:
            RuntimeError: the pairs of classes hold other pixels than the images: two ranks scored
                one image.
        """
        rows = self.unique_rows(key=3)
        of_image = rows[:, 1] == OF_IMAGE
        images, pairs = rows[of_image], rows[~of_image]
        if pairs[:, 3].sum() != images[:, 2].sum():
            raise RuntimeError(
                "the counts of classes differ from the images' pixels: an image was scored by two "
                "ranks; deal each to one"
            )
        confusion = confusion_of(pairs, (self.classes, self.predicted + self.unnamed))
        return self.score(
            confusion, pairs, sample_id=images[:, 0], ignored_pixels=int(images[:, 3].sum())
        )

    def score(self, confusion: Ints, rows: Ints, **facts: Any) -> SegmentationScore:
        """Return the score of the rows of the set and their sum."""
        counts = set_counts(rows, self.classes)
        return SegmentationScore(confusion=confusion, counts=counts, rows=rows, **facts)


class ClassMaps(Scorer):
    """Score the class maps that come with the batches of one set: numbers, baselines, pictures, the
    best and the worst images.

    The maps are another system's predictions; a subclass predicts its own.

    Args:
        context: what it is built from.
        labels: the classes; by default those of the benchmark's label set.
        options: further ones of ``Scorer``.

    Attributes:
        predicted_baselines: those of the mIoU, ``<benchmark>/miou_<baseline>``, that predict class
            maps of their own.
        unnamed: True if a predicted pixel may have no class.
        folder: the predicted maps are written to it, by all ranks to that of the first; None to
            write none.
    """

    measure = "segmentation"
    needs: tuple[str, ...] = ("labels", "prediction")
    tag = "pictures"
    predicted_baselines: tuple[str, ...] = ()
    unnamed = True
    labels: LabelSet
    folder: Path | None = None

    def __init__(self, context: Context, *, labels: LabelSet | None = None, **options: Any) -> None:
        labels = labels or context.labels
        metrics = {
            key: MeanIoU(len(labels.names), unnamed=self.unnamed)
            for key in ("model", *self.predicted_baselines)
        }
        super().__init__(context, metrics=metrics, labels=labels, **options)
        self._extremes: Extremes = {}

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the predictions and the baselines of a batch, write them where there is a folder,
        and keep the best and the worst images.  Returns the predictions.
        """
        predictions, baselines = self.predict(model, batch, truth)
        classes = len(self.labels.names)
        self.count(predictions, truth, batch=batch, **baselines)
        metric = self.metrics["model"]
        assert isinstance(metric, MeanIoU)
        rows: Ints = metric.counted.numpy()
        rows = rows[rows[:, 1] != OF_IMAGE]
        for position, index in enumerate(batch["sample_id"].tolist()):
            if index == PADDING:
                continue
            if self.folder is not None:
                values = predictions[position].cpu().numpy()
                picture = map_image(values, class_colours(classes, self.labels.background))
                with replacing(self.folder / f"{batch['name'][position]}.png") as partial:
                    picture.save(partial, format="PNG")
            counts = set_counts(rows[rows[:, 0] == index], classes)
            iou = float(image_miou(counts[None])[0])
            shown = ScoredImage.of(batch, position, predictions, truth)
            kept = extremes_of({**self._extremes, index: (iou, shown)})
            if index in kept:
                self._extremes = {**kept, index: (iou, shown.copied())}
        return predictions

    def predict(
        self, model: Any, batch: Batch, truth: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, Baseline]]:
        """Return the class maps of a batch, and those of the baselines by name."""
        return batch["prediction"], {}

    def derived_baselines(self) -> dict[str, Ints]:
        """Return the baselines of the mIoU that replace each predicted class: by name, the class
        that takes the place of each, (C + 1,) with that of a pixel without a class.

        A constant map of background is one, where there is such a class.
        """
        background = self.labels.background
        if background is None:
            return {}
        return {"constant_background": np.full(len(self.labels.names) + 1, background)}

    def begin(self, model: Any, **embedding: Any) -> None:
        """Prepare an evaluation, and drop the extremes of the last one."""
        super().begin(model, **embedding)
        self.folder = objects_of_ranks(self.folder)[0]
        self._extremes = {}

    def gather(self) -> None:
        """Derive the baselines that need no pass over the pixels, and gather the best and the worst
        images of all ranks on the first; the others drop theirs.
        """
        model, *predicted = self.scores.items()
        derived = {
            key: self.scores["model"].predicted_as(classes)
            for key, classes in self.derived_baselines().items()
        }
        self.scores = dict([model, *derived.items(), *predicted])
        on_cpu = {index: (iou, shown.on_cpu()) for index, (iou, shown) in self._extremes.items()}
        parts = objects_on_first(on_cpu)
        self._extremes = extremes_of(
            {index: image for extremes in parts for index, image in extremes.items()}
        )

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
        ious = image_miou(score.image_counts).tolist()
        iou = dict(zip(score.sample_id.tolist(), ious, strict=True))
        for end, ids in zip(("best_images", "worst_images"), best_and_worst(iou), strict=True):
            entry[end] = [{"sample_id": index, "iou": iou[index]} for index in ids]
        if self.unnamed:
            entry["unnamed_pixels"] = int(score.confusion[:, -1].sum())
        return entry

    def predictions(self) -> Predictions | None:
        """Return the best images and then the worst; on the first rank, and None before the first
        evaluation.
        """
        if not self.scores or not self._extremes:
            return None
        return self._as_arrays([shown for _, shown in self._extremes.values()])

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
