"""Class maps of one image set: counted, drawn and recorded, whatever predicts them.  C classes, H W
pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from gestalt.data_modules.batches import PADDING
from gestalt.data_modules.image_sets import LabelSet
from gestalt.evaluation.confusion import image_miou
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.evaluation.predictions import Predictions, ScoredImage, write_predictions
from gestalt.losses.gather import objects_on_first
from gestalt.measures.callback import Baseline, Batch, Entry, Scorer
from gestalt.measures.extremes import Extremes, add_extreme, best_and_worst
from gestalt.measures.masks import mask_entry, mask_values
from gestalt.measures.segmentation.metric import MeanIoU, SegmentationScore, dense_counts
from gestalt.support.arrays import Ints
from gestalt.training.pictures import log_folders


class ClassMaps(Scorer):
    """Score the class maps that come with the batches of one set: numbers, baselines, pictures, the
    best and the worst images.

    The maps are another system's predictions; a subclass predicts its own.

    Args:
        name, labels, options: as ``Scorer``.

    Attributes:
        baselines: those of each mIoU, as ``<benchmark>/miou_<baseline>``; that of constant
            background only where there is such a class.
        unnamed: True if a predicted pixel may have no class.
    """

    measure = "segmentation"
    needs: tuple[str, ...] = ("labels", "prediction")
    tag = "pictures"
    baselines: tuple[str, ...] = ("constant_background",)
    unnamed = True
    labels: LabelSet

    def __init__(self, name: str, *, labels: LabelSet, **options: Any) -> None:
        if labels.background is None:
            self.baselines = tuple(key for key in self.baselines if key != "constant_background")
        metrics = {
            key: MeanIoU(len(labels.names), unnamed=self.unnamed)
            for key in ("model", *self.baselines)
        }
        super().__init__(name, metrics=metrics, labels=labels, **options)
        self._extremes: Extremes = {}

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the predictions of a batch."""
        return self.count(batch["prediction"], truth, batch=batch)

    def count(
        self,
        predictions: list[Tensor],
        truth: Sequence[Tensor],
        *,
        batch: Batch,
        **baselines: Baseline,
    ) -> list[Tensor]:
        """Count the predictions and the baselines of a batch, and keep the best and the worst
        images.  Returns the predictions.
        """
        background = self.labels.background
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
        """Prepare as ``Scorer``, and drop the extremes of the last evaluation."""
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

    def predictions(self) -> dict[str, Predictions]:
        """Return ``<benchmark>`` to the best images and then the worst; on the first rank, and
        empty before the first evaluation.
        """
        if not self.scores or not self._extremes:
            return {}
        ends_of_set = [image["sample_id"] for images in self._ends().values() for image in images]
        return {self.name: self._as_arrays([self._extremes[index][1] for index in ends_of_set])}

    def _as_arrays(self, images: Sequence[ScoredImage]) -> Predictions:
        """Return images with their class names, to be written."""
        return Predictions(tuple(self.labels.names), self.labels.background, images=tuple(images))

    def arrays(self, score: SegmentationScore) -> dict[str, Ints]:
        """Return the counts of each image, and the confusion matrix of the set.

        ``counts``: (N, 3, C) pixels of intersection, prediction and truth.
        ``confusion``: (C, C) pixels of the set, or (C, C + 1); truth by prediction.
        """
        return {"counts": score.image_counts, "confusion": score.confusion}

    def draw(self, trainer: Trainer, *, shown: Sequence[ScoredImage]) -> None:
        """Draw as ``Scorer``, and write the arrays that the pictures were drawn from."""
        for folder in log_folders(trainer):
            write_predictions(folder / "predictions" / f"{self.name}.npz", self._as_arrays(shown))
        super().draw(trainer, shown=shown)

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw image, prediction and truth."""
        return segmentation_panels(
            shown, names=self.labels.names, background=self.labels.background
        )
