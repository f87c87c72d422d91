"""Segmentation: top-down grouping of one image set at each evaluation, with its baselines and pictures.  C classes, H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from torch import Tensor

from gestalt.config.calibration_file import calibration_for
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.images import sizes_of, squashed
from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.evaluation.vocabularies import OWN, Vocabulary, named
from gestalt.measures.callback import Options
from gestalt.measures.context import Context
from gestalt.measures.segmentation.baselines import constant, patch_oracle, shuffled_classes
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.metric import SegmentationScore
from gestalt.measures.segmentation.protocol import fitted, segmentation_protocol
from gestalt.support.label_values import ignored_value

BASELINES = ("constant_background", "shuffled_text", "patch_oracle")
"""The baselines of a model's mIoU."""


class Segmentation(ClassMaps):
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

    baselines = BASELINES
    protocol: TopDownProtocol

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
        super().__init__(name, labels=labels, protocol=protocol, prompted=(labels, protocol), options=options)
        self.one_thread = protocol.window is not None
        self.calibration = calibration
        self._asked = asked
        self._proxy: dict[str, Any] = {}
        self._cache = PatchCache() if cache is None else cache

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

    def fit_to(self, model: Any) -> None:
        """Fit the protocol to the model: see ``fitted``."""
        self.protocol = fitted(self.protocol, model, asked=self._asked)
        self._proxy = {"proxy": model.proxy.image_origin.record()} if self.protocol.proxy else {}

    def score(self, model: Any, batch: Mapping[str, Any], truth: Sequence[Tensor]) -> list[Tensor]:
        """Segment a batch and count."""
        prompts, protocol = self.prompts, self.protocol
        images = top_down(model, batch["image"], prompts=prompts, protocol=protocol, sizes=sizes_of(truth), cache=self._cache)
        void = ignored_value(len(self.labels.names))
        swap = shuffled_classes(len(self.labels.names), prompts=prompts)
        predictions = {
            "model": [image.prediction for image in images],
            "shuffled_text": [swap[image.prediction.long()] for image in images],
            "patch_oracle": [patch_oracle(label, grid=image.grid, ignored=void) for image, label in zip(images, truth, strict=True)],
        }
        if self.labels.background is not None:
            predictions["constant_background"] = [constant(label, index=self.labels.background) for label in truth]
        self.count(predictions, truth, batch=batch)
        self.keep(batch, predictions=predictions["model"], labels=truth)
        return predictions["model"]

    def gather(self) -> None:
        """Gather the best and the worst images of all ranks on the first."""
        self._cache.forget()
        super().gather()

    def entry(self, score: SegmentationScore) -> dict[str, Any]:
        """Return the entry as ``ClassMaps``, with the provenance of words, threshold and proxy."""
        return {**super().entry(score), "vocabulary": self.vocabulary, "calibration": self.calibration, **self._proxy}


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
