"""Segmentation: top-down grouping of one image set at each evaluation, with its baselines and pictures.  C classes, H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gestalt.callbacks.pictures import log_folders
from gestalt.config.calibration_file import calibration_for
from gestalt.evaluation.confusion import image_miou
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.images import sizes_of, squashed
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.evaluation.predictions import Predictions, write_predictions
from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.evaluation.vocabularies import OWN, Vocabulary, named
from gestalt.measures.callback import Options, Scorer
from gestalt.measures.context import Context
from gestalt.measures.extremes import Extremes, ends
from gestalt.measures.masks import class_values, mask_entry
from gestalt.measures.rows import PADDING
from gestalt.measures.segmentation.baselines import constant, patch_oracle, shuffled_classes
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.metric import MeanIoU, SegmentationScore
from gestalt.measures.segmentation.protocol import fitted, segmentation_protocol
from gestalt.measures.shown import Shown

BASELINES = ("constant_background", "shuffled_text", "patch_oracle")
"""The baselines of each mIoU, as ``<set>/miou_<baseline>``; the first only where the label set has a background class."""


class Segmentation(Scorer[SegmentationScore]):
    """Segment the images of one set by its class names, and log numbers and pictures.

    Args:
        name, options: as ``Scorer``.
        labels: classes and their prompts.
        protocol: how images are resized, prompts made and background decided.
        cache: shared by the benchmarks of an image set, so that an image's features are computed once.
        calibration: origin of the protocol's threshold, for the record; None if it was not calibrated.
        asked: True if the configuration names the dense reading or the positions, not only the protocol.

    Raises:
        ValueError: the label set does not fit the protocol; or as ``Scorer``.
    """

    measure, needs = "segmentation", ("labels",)
    tag = "pictures"
    protocol: TopDownProtocol
    labels: Labels

    def __init__(
        self,
        name: str,
        *,
        labels: Labels,
        protocol: TopDownProtocol,
        cache: PatchCache | None = None,
        calibration: Mapping[str, Any] | None = None,
        asked: bool = False,
        **options: Unpack[Options],
    ) -> None:
        self.baselines = BASELINES if labels.background is not None else BASELINES[1:]
        metrics = {key: MeanIoU(len(labels.names)) for key in ("model", *self.baselines)}
        super().__init__(name, protocol=protocol, metrics=metrics, labels=labels, prompted=(labels, protocol), options=options)
        self.one_thread = protocol.window is not None
        self.calibration = calibration
        self._asked = asked
        self._proxy: dict[str, Any] = {}
        self._cache = PatchCache() if cache is None else cache
        self._extremes = Extremes()

    @property
    def vocabulary(self) -> dict[str, str]:
        """The list that names the classes, and the reason if the protocol names another list."""
        words = self.labels
        return {"list": words.list_name, "why": words.why} if isinstance(words, Vocabulary) else {"list": OWN, "why": ""}

    def truth(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """Return the (H, W) label maps of the label set, at the resolution that the protocol scores."""
        labels: list[Tensor] = super().truth(batch)
        if self.protocol.label_resolution == "native":
            return labels
        return [squashed(label, side=self.protocol.input_size) for label in labels]

    def begin(self, model: Any) -> None:
        """Fit the protocol to the model, embed the classes, and drop the features and extremes of the last evaluation."""
        self.fit_to(model)
        super().begin(model)
        self._cache.forget()
        self._extremes = Extremes()

    def fit_to(self, model: Any) -> None:
        """Fit the protocol to the model: see ``fitted``."""
        self.protocol = fitted(self.protocol, model, asked=self._asked)
        self._proxy = {"proxy": model.proxy.image_origin.record()} if self.protocol.proxy else {}

    def score(self, model: Any, batch: Mapping[str, Any], truth: Sequence[Tensor]) -> list[Tensor]:
        """Segment a batch and count."""
        prompts, protocol = self.prompts, self.protocol
        images = top_down(model, batch["image"], prompts=prompts, protocol=protocol, sizes=sizes_of(truth), cache=self._cache)
        swap = shuffled_classes(len(self.labels.names), prompts=prompts)
        predictions = {
            "model": [image.prediction for image in images],
            "shuffled_text": [swap[image.prediction.long()] for image in images],
            "patch_oracle": [patch_oracle(label, grid=image.grid) for image, label in zip(images, truth, strict=True)],
        }
        if self.labels.background is not None:
            predictions["constant_background"] = [constant(label, index=self.labels.background) for label in truth]
        self.count(predictions, truth, batch=batch)
        self._keep(batch, images=images, labels=truth)
        return predictions["model"]

    def _keep(self, batch: Mapping[str, Any], *, images: Sequence[TopDown], labels: Sequence[Tensor]) -> None:
        """Keep the images of a batch that are among the best or the worst so far."""
        counted: list[Tensor] = self.metrics["model"].counts  # type: ignore[assignment]
        for position, iou in enumerate(image_miou(counted[-1].cpu().numpy()).tolist()):
            index = int(batch["sample_id"][position])
            if index != PADDING and self._extremes.may_rank(iou):
                shown = Shown.of(batch, position, prediction=images[position].prediction, label=labels[position])
                self._extremes.add(iou, shown)

    def gather(self) -> None:
        """Gather the best and the worst images of all ranks on the first."""
        self._cache.forget()
        self._extremes.gather()

    def values(self, score: SegmentationScore) -> dict[str, float]:
        """Return the scores of the model and the baselines, and each class's IoU."""
        values = {"miou": score.miou, "pixel_accuracy": score.pixel_accuracy}
        values |= {f"miou_{key}": self.scores[key].miou for key in self.baselines}
        return values | class_values(self.labels.names, score)

    def entry(self, score: SegmentationScore) -> dict[str, Any]:
        """Return the counts of the model and the baselines, provenance of words and threshold, and the best and worst images."""
        listed = {end: [{"sample_id": index, "iou": iou} for index, iou in images] for end, images in self._ends(score).items()}
        return {
            "ignored_pixels": score.ignored_pixels,
            **mask_entry(self.scores),
            **({} if self.labels.background is None else {"constant_class": self.labels.background}),
            "vocabulary": self.vocabulary,
            "calibration": self.calibration,
            **self._proxy,
            **listed,
        }

    def _ends(self, score: SegmentationScore) -> dict[str, list[tuple[int, float]]]:
        """Return id and mean IoU of the best and the worst images, the same on every rank."""
        iou = image_miou(score.image_counts)
        best, worst = ends(iou, score.sample_id)
        positions = {"best_images": best, "worst_images": worst}
        return {end: [(int(score.sample_id[row]), float(iou[row])) for row in rows] for end, rows in positions.items()}

    def predictions(self) -> dict[str, Predictions]:
        """Return ``<set>`` to the best images and then the worst; on the first rank, and empty before the first evaluation."""
        if not self.scores or not self._extremes.gathered:
            return {}
        ids = [index for images in self._ends(self.scores["model"]).values() for index, _ in images]
        return {self.name: self._as_arrays(self._extremes.in_order(ids))}

    def _as_arrays(self, images: Sequence[Shown]) -> Predictions:
        """Return images with their class names, to be written."""
        return Predictions(tuple(self.labels.names), self.labels.background, images=tuple(image.kept() for image in images))

    def arrays(self, score: SegmentationScore) -> dict[str, NDArray[np.int64]]:
        """Return the counts of each image, and the confusion matrix of the set.

        ``counts``: (N, 3, C) pixels of intersection, prediction and truth.
        ``confusion``: (C, C) labelled pixels of the whole set, truth by prediction.
        """
        return {"counts": score.image_counts, "confusion": score.confusion}

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Draw as ``Scorer``, and write the arrays that the pictures were drawn from."""
        for folder in log_folders(trainer)[:1]:
            write_predictions(folder / "predictions" / f"{self.name}.npz", self._as_arrays(shown))
        super().draw(trainer, shown=shown)

    def picture(self, shown: Shown) -> Image.Image:
        """Draw image, prediction and truth."""
        names, background = self.labels.names, self.labels.background
        return segmentation_panels(
            shown.image, prediction=shown.prediction, truth=shown.label, names=names, background=background, title=shown.name
        )


def build(context: Context) -> Segmentation:
    """Build the scorer of a benchmark's label maps, its classes named by the protocol's vocabulary.

    Raises:
        ConfigError: the calibrated threshold was chosen under another protocol or for other classes.
    """
    config, benchmark = context.config, context.benchmark
    assert benchmark.label_set is not None
    has_background = context.labels.background is not None
    protocol = segmentation_protocol(config, benchmark, label_set=benchmark.label_set, has_background=has_background)
    labels = named(context.labels, label_set=benchmark.label_set, protocol=protocol)
    calibration = calibration_for(benchmark.name, file=config.evaluation.calibration)
    if calibration is not None:
        read = protocol if "reading" in calibration.fields else protocol.plainly()  # as the calibrated model could be read
        calibration.check_settings(read, label_set=labels.digest())
    return Segmentation(
        benchmark.name,
        labels=labels,
        protocol=protocol,
        cache=context.cache,
        calibration=None if calibration is None else calibration.source,
        asked=config.evaluation.reading is not None or config.evaluation.positions is not None,
        **context.options,
    )
