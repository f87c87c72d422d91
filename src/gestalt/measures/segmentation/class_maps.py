"""Class maps of one image set: counted, drawn and recorded, whatever predicts them, with the images
that are segmented best and worst.  N samples, C classes, H W pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.data_modules.validation import ImageSetDataset
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Baseline, Batch, RecordedCallback, Scorer
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.confusion import image_miou, mask_entry, mask_values
from gestalt.measures.evaluation.pictures import (
    Predictions,
    ScoredImage,
    class_colours,
    map_image,
    segmentation_panels,
    write_predictions,
)
from gestalt.measures.segmentation.extremes import Extremes, best_and_worst, extremes_of, reduced
from gestalt.measures.segmentation.mean_iou import (
    OF_IMAGE,
    MeanIoU,
    SegmentationScore,
    set_counts,
)
from gestalt.support.arrays import Ints
from gestalt.support.files import replacing
from gestalt.support.label_values import PADDING
from gestalt.support.ranks import objects_of_ranks, objects_on_first
from gestalt.training.board import log_folders


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

    def score(self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
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
                self._extremes = {**kept, index: (iou, shown.copied(Tensor.clone))}
        return predictions

    def predict(
        self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]
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

    def begin(self, model: DenseModel, **embedding: Any) -> None:
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
        on_cpu = {
            index: (iou, shown.copied(Tensor.cpu)) for index, (iou, shown) in self._extremes.items()
        }
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

    def predictions(
        self, further: Callable[["ClassMaps"], Iterable[int]] = lambda scorer: ()
    ) -> Predictions | None:
        """Return the best images and then the worst, and where the maps of all images are in files,
        those whose ids ``further`` returns; on the first rank, and None before the first
        evaluation.
        """
        if not self.scores or not self._extremes:
            return None
        images = [shown for _, shown in self._extremes.values()]
        if self.folder is not None or "prediction" in self.needs:
            images += [self._read(index) for index in further(self) if index not in self._extremes]
        return self._as_arrays(images)

    def _read(self, index: int) -> ScoredImage:
        """Read an image of the set again, with its map from its file."""
        batch: dict[str, Any] = {**ImageSetDataset(self.context.image_set)[[index]]}
        if self.folder is not None:
            file = self.folder / f"{batch['name'][0]}.png"
            batch["prediction"] = [torch.from_numpy(np.array(Image.open(file)))]
        return ScoredImage.of(batch, 0, batch["prediction"], self.truth(batch))

    def _as_arrays(self, images: Sequence[ScoredImage]) -> Predictions:
        """Return images with their class names, to be written."""
        return Predictions(tuple(self.labels.names), self.labels.background, images=tuple(images))

    def arrays(self, score: SegmentationScore) -> dict[str, Ints]:
        """Return the counts of each image, the confusion matrix of the set, and the rows of each
        image.

        ``counts``: (N, 3, C) pixels of intersection, prediction and truth.
        ``confusion``: (C, C) pixels of the set, or (C, C + 1); truth by prediction.
        ``rows``: (m, 5) position of the image, true class, predicted class (C: none), band of
        ``border_bands``, and the pixels that have all four.
        """
        rows = score.rows.copy()
        rows[:, 0] = np.searchsorted(score.sample_id, rows[:, 0])
        smallest = np.min_scalar_type(rows.max(initial=0))
        return {
            "counts": score.image_counts,
            "confusion": score.confusion,
            # column by column, which compresses better
            "rows": np.asfortranarray(rows.astype(smallest)),
        }

    def draw(self, trainer: Trainer, shown: Sequence[ScoredImage]) -> None:
        """Write the pictures, and the arrays that they were drawn from."""
        for folder in log_folders(trainer):
            write_predictions(folder / "predictions" / f"{self.name}.npz", self._as_arrays(shown))
        super().draw(trainer, shown=shown)

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw image, prediction and truth."""
        return segmentation_panels(shown, self.labels.names, self.labels.background)


def write_extremes(
    folder: Path,
    scorers: Iterable[RecordedCallback],
    further: Callable[[ClassMaps], Iterable[int]] = lambda scorer: (),
) -> None:
    """Write the predictions of every scorer to ``<folder>/<benchmark>.npz``, images
    reduced to ``MAX_LONG_SIDE``.
    """
    for scorer in scorers:
        predictions = scorer.predictions(further) if isinstance(scorer, ClassMaps) else None
        if predictions is not None:
            images = tuple(map(reduced, predictions.images))
            write_predictions(folder / f"{scorer.name}.npz", predictions._replace(images=images))
