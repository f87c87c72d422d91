"""Segmentation: top-down grouping of one image set at each evaluation, with its baselines and pictures.  C classes, H W pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor

from gestalt.callbacks.pictures import log_folders, write_picture
from gestalt.evaluation.confusion import image_miou
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.images import squashed
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.evaluation.predictions import Kept, Predictions, write_predictions
from gestalt.evaluation.prompts import ClassEmbeddings, Labels, class_embeddings, templates_digest, used_prompts
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.measures.callback import Scorer, Shown, gathered_on_first, spread, without_nan
from gestalt.measures.extremes import Extremes, ends, in_order
from gestalt.measures.rows import PADDING
from gestalt.measures.segmentation.baselines import constant, patch_oracle, shuffled_classes
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.metric import MeanIoU, SegmentationScore

BASELINES = ("constant_background", "shuffled_text", "patch_oracle")
"""What each mIoU stands beside, as ``<set>/miou_<baseline>``."""


class Segmentation(Scorer[SegmentationScore]):
    """Scores one image set, whatever the number of ranks, and logs numbers and pictures.

    Args:
        name: of the benchmark.
        labels: classes and their prompts.
        protocol: how images are resized, prompts made and background decided.
        length: how many images the whole set has; the handful is spread over it.
        pictures: how many images are shown.
        image_set: as ``Scorer``.
        label_set: the name of ``labels`` in batches; None where it has the benchmark's name.
        cache: shared by the benchmarks of an image set, so that an image's features are computed once.
        calibration: where the protocol's threshold was chosen, for the record; None for one that was not calibrated.

    Raises:
        ValueError: the label set does not fit the protocol; or as ``Scorer``.
    """

    measure, needs = "segmentation", "labels"

    def __init__(
        self,
        name: str,
        *,
        labels: Labels,
        protocol: TopDownProtocol,
        length: int,
        pictures: int = 6,
        image_set: str | None = None,
        label_set: str | None = None,
        cache: PatchCache | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        used_prompts(labels, protocol=protocol)
        metrics = {key: MeanIoU(len(labels.names)) for key in ("model", *BASELINES)}
        super().__init__(name, metrics=metrics, image_set=image_set, shown_ids=spread(length, count=pictures))
        self.label_set = label_set or name
        self.labels = labels
        self.protocol = protocol
        self.length = length
        self.calibration = calibration
        self._cache = PatchCache() if cache is None else cache
        self._prompts: ClassEmbeddings | None = None
        self._extremes = Extremes()
        self._kept: list[Shown] = []

    @property
    def vocabulary(self) -> dict[str, str]:
        """The list that names the classes, and why it is not the one that the protocol asks for, where it is not."""
        return {"list": getattr(self.labels, "list_name", "label_set"), "why": getattr(self.labels, "why", "")}

    @property
    def constant_class(self) -> int:
        """What the constant baseline says: background, or the first class of a set that has none."""
        return self.labels.background or 0

    def truth(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """The (H, W) label maps of the label set, at the resolution that the protocol scores."""
        labels = label_maps(super().truth(batch), label_set=self.label_set, image_set=self.image_set)
        if self.protocol.label_resolution == "native":
            return labels
        return [squashed(label, side=self.protocol.input_size) for label in labels]

    def begin(self, model: Any) -> None:
        """Embed the classes anew, since the text tower trains."""
        self._prompts = class_embeddings(model, self.labels, protocol=self.protocol)
        self._cache.forget()
        self._extremes = Extremes()

    def score(self, model: Any, batch: Mapping[str, Any]) -> list[Tensor]:
        """Segment a batch and count."""
        assert self._prompts is not None
        labels = self.truth(batch)
        sizes = [(label.shape[0], label.shape[1]) for label in labels]
        found = top_down(model, batch["image"], prompts=self._prompts, protocol=self.protocol, sizes=sizes, cache=self._cache)
        self._count(found, labels=labels, sample_id=batch["sample_id"])
        self._keep(batch, found=found, labels=labels)
        return [one.prediction for one in found]

    def _keep(self, batch: Mapping[str, Any], *, found: Sequence[TopDown], labels: Sequence[Tensor]) -> None:
        """Keep the images of a batch that are among the best or the worst so far."""
        counted: list[Tensor] = self.metrics["model"].counts  # type: ignore[assignment]
        for position, iou in enumerate(image_miou(counted[-1].cpu().numpy()).tolist()):
            index = int(batch["sample_id"][position])
            if index != PADDING and self._extremes.wants(iou):
                image, prediction, label = (part.cpu() for part in (batch["image"][position], found[position].prediction, labels[position]))
                self._extremes.add(iou, Shown(index, batch["name"][position], image=image, prediction=prediction, label=label))

    def gather(self) -> None:
        """The best and the worst images of all ranks, on the first."""
        self._cache.forget()
        self._kept = gathered_on_first(self._extremes.images())
        self._extremes = Extremes()

    def _count(self, found: Sequence[TopDown], *, labels: Sequence[Tensor], sample_id: Tensor) -> None:
        """Update the four metrics."""
        assert self._prompts is not None
        swap = shuffled_classes(len(self.labels.names), prompts=self._prompts)
        predictions = {
            "model": [one.prediction for one in found],
            "constant_background": [constant(label, index=self.constant_class) for label in labels],
            "shuffled_text": [swap[one.prediction.long()] for one in found],
            "patch_oracle": [patch_oracle(label, grid=one.grid) for one, label in zip(found, labels, strict=True)],
        }
        for key, prediction in predictions.items():
            self.metrics[key].update(prediction, labels, sample_id)

    def logged(self) -> dict[str, float]:
        """Of the model and the baselines, and each class."""
        score = self.scores["model"]
        values = {"miou": score.miou, "pixel_accuracy": score.pixel_accuracy}
        values |= {f"miou_{key}": self.scores[key].miou for key in BASELINES}
        values |= {f"iou/{key}": float(iou) for key, iou in zip(class_keys(self.labels.names), score.iou, strict=True)}
        return without_nan(self.name, values)

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record, empty before the first: metrics, IoU of each class (None for nan), counts, provenance."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "images_in_set": self.length,
            "ignored_pixels": score.ignored_pixels,
            "names": list(self.labels.names),
            "iou": [None if np.isnan(value) else value for value in score.iou.tolist()],
            "counts": {key: self.scores[key].counts.tolist() for key in self.scores},
            "counts_rows": ["intersection", "prediction", "truth"],
            "constant_class": self.constant_class,
            "label_set": self.labels.digest(),
            "vocabulary": self.vocabulary,
            "calibration": self.calibration,
            "templates": templates_digest(self.protocol),
            **{end: [{"sample_id": index, "iou": iou} for index, iou in listed] for end, listed in self._ends().items()},
        }

    def _ends(self) -> dict[str, list[tuple[int, float]]]:
        """Id and mean IoU of the best and the worst images, the same on every rank."""
        score = self.scores["model"]
        iou = image_miou(score.image_counts)
        found = ends(iou, score.sample_id)
        named = {"best_images": found.best, "worst_images": found.worst}
        return {key: [(int(score.sample_id[one]), float(iou[one])) for one in positions] for key, positions in named.items()}

    def predictions(self) -> dict[str, Predictions]:
        """``<set>`` to the best images and then the worst, as arrays; on the first rank, and empty before the first score."""
        if not self.scores or not self._kept:
            return {}
        ids = [index for listed in self._ends().values() for index, _ in listed]
        images = tuple(kept(one) for one in in_order(self._kept, ids=ids))
        return {self.name: Predictions(tuple(self.labels.names), self.labels.background, images=images)}

    def per_image(self) -> dict[str, NDArray[np.int64]]:
        """Empty before the first score.

        ``<set>/counts``: (N, 3, C) pixels of intersection, prediction and truth, in order of image id.
        ``<set>/confusion``: (C, C) labelled pixels of the whole set, a row a class of the truth, a column a class of the prediction.
        """
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {f"{self.name}/counts": score.image_counts, f"{self.name}/confusion": score.confusion}

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures to every TensorBoard logger, and as PNG beside the first log, with the arrays they were drawn from."""
        for folder in log_folders(trainer)[:1]:
            handful = Predictions(tuple(self.labels.names), self.labels.background, images=tuple(map(kept, shown)))
            write_predictions(folder / "predictions" / f"{self.name}.npz", handful)
        for position, one in enumerate(shown):
            picture = segmentation_panels(
                one.image,
                prediction=one.prediction,
                truth=one.label,
                names=self.labels.names,
                background=self.labels.background,
                title=one.name,
            )
            write_picture(
                trainer, picture=picture, tag=f"{self.name}/pictures/{position}", stem=f"epoch_{trainer.current_epoch:03d}_{one.name}"
            )


def kept(shown: Shown) -> Kept:
    """An image as arrays."""
    return Kept(shown.name, shown.image.numpy(), prediction=shown.prediction.numpy(), label=shown.label.numpy())


def label_maps(label_sets: Mapping[str, list[Tensor]], *, label_set: str, image_set: str) -> list[Tensor]:
    """The (H, W) label maps of one label set of a batch.

    Raises:
        ValueError: it has none of that name.
    """
    if label_set not in label_sets:
        raise ValueError(f"image set {image_set}: its batches have no label set {label_set!r}; they have {list(label_sets)}")
    return label_sets[label_set]


def class_keys(names: Sequence[str]) -> list[str]:
    """The class names, each with its index where a set gives two classes one name."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} {index}" for index, name in enumerate(names)]
