"""Segmentation: top-down grouping of one image set at each evaluation, with its baselines and
pictures.  C classes, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from gestalt.data_modules.labels.predicted_maps import nearest_pixels
from gestalt.data_modules.pixels.photographs import pixels_hash
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Baseline, Batch, spread
from gestalt.measures.context import Context, Entry
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import sizes_of
from gestalt.measures.evaluation.prompts import used_prompts
from gestalt.measures.evaluation.vocabularies import Vocabulary, name_classes
from gestalt.measures.segmentation.baselines import patch_oracle, shuffled_classes
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.measures.segmentation.configured import calibration_for, segmentation_protocol
from gestalt.measures.segmentation.corrections import Largest, largest_cosines
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.fitting import fit_protocol
from gestalt.measures.segmentation.mean_iou import SegmentationScore
from gestalt.support.arrays import Ints


class Segmentation(ClassMaps):
    """Segment the images of one set by its class names, and log numbers and pictures.

    Args:
        context: its benchmark's label set has the classes, which the protocol's vocabulary names;
            its protocol is by default the benchmark's with the changes of the configuration.

    Attributes:
        calibration: origin of the protocol's threshold, for the record; None if it was not
            calibrated.

    Raises:
        ConfigError: the calibrated threshold was chosen under another protocol or for other
            classes.
        ValueError: the label set does not fit the protocol; a class has no prompt.
    """

    needs = ("labels",)
    predicted_baselines = ("patch_oracle",)
    unnamed = False
    fixed = frozenset(predicted_baselines)
    protocol: TopDownProtocol
    labels: Vocabulary

    def __init__(self, context: Context) -> None:
        evaluation, benchmark = context.evaluation, context.benchmark
        assert benchmark.label_set is not None
        protocol: TopDownProtocol = context.given or segmentation_protocol(
            evaluation,
            benchmark,
            size=context.size,
            label_set=benchmark.label_set,
            has_background=context.labels.background is not None,
        )
        labels = name_classes(
            context.labels,
            label_set=benchmark.label_set,
            vocabulary=protocol.vocabulary,
            defects=protocol.defects,
        )
        calibration = calibration_for(benchmark, evaluation)
        if calibration is not None:
            calibration.check_settings(
                # as the calibrated model could be read
                protocol if "reading" in calibration.fields else protocol.plainly(),
                label_set=labels.digest(),
            )
        super().__init__(replace(context, given=protocol), labels=labels, prompted=labels)
        self.one_thread = protocol.window is not None
        self.calibration = None if calibration is None else calibration.source
        self._unlabelled = None if protocol.debias == "none" else context.open_unlabelled()
        self._largest: Largest | None = None
        self._proxy: dict[str, Any] = {}

    def truth(self, batch: Batch) -> list[Tensor]:
        """Return the (H, W) label maps of the label set, at the resolution that the protocol
        scores.
        """
        labels: list[Tensor] = super().truth(batch)
        if self.protocol.label_resolution == "native":
            return labels
        side = self.protocol.input_size
        return [nearest_pixels(label, size=(side, side)) for label in labels]

    def begin(self, model: DenseModel, **embedding: Any) -> None:
        """Fit the protocol to the model, and embed the classes; under ``debias``, with offsets from
        the unlabelled images.  Every rank must call it.

        Raises:
            ValueError: a requested reading that the tower has no part for; no unlabelled images, or
                none that can be read.
        """
        evaluation = self.context.evaluation
        requested = not {evaluation.reading, evaluation.positions} <= {None}
        protocol = fit_protocol(self.protocol, model, requested, self.context.open_vision)
        self.protocol = protocol
        self._proxy = {}
        if protocol.proxy:
            assert model.proxy is not None  # attached when the protocol was fitted
            self._proxy = {"proxy": model.proxy.image_origin.record()}
        super().begin(model, of_locations=True, **embedding)
        if protocol.debias == "none":
            return
        if self._unlabelled is None:
            raise ValueError(
                f"evaluation.debias={protocol.debias} needs unlabelled images; name a folder "
                "of some by evaluation.unlabelled=DIR"
            )
        self._largest = largest_cosines(
            model,
            self._unlabelled,
            chosen=spread(len(self._unlabelled), protocol.debias_images),
            prompts=self.prompts,
            protocol=protocol,
        )
        offset = -self._largest.mean.to(self.prompts.vectors)
        self.prompts = self.prompts._replace(offset=offset)

    def check_unseen(self, images: Sequence[Tensor]) -> None:
        """Check that no image to be scored is among the unlabelled ones."""
        if self._largest is not None and self._largest.seen & set(map(pixels_hash, images)):
            raise ValueError(
                f"evaluation.debias={self.protocol.debias}: an image of "
                f"{self.context.image_set.name} is among the unlabelled images too; choose others "
                "by evaluation.unlabelled=DIR"
            )

    def predict(
        self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, Baseline]]:
        """Segment a batch."""
        self.check_unseen(batch["image"])
        images = top_down(model, batch["image"], self.prompts, self.protocol, sizes_of(truth))
        grids = [image.pieces.grid for image in images]
        return [image.prediction for image in images], {
            "patch_oracle": map(patch_oracle, truth, grids)
        }

    def derived_baselines(self) -> dict[str, Ints]:
        """Return those of class maps, and the model with its class texts shuffled."""
        swap = shuffled_classes(len(self.labels.names), self.prompts)
        return {**super().derived_baselines(), "shuffled_text": swap}

    def entry(self, score: SegmentationScore) -> Entry:
        """Return the entry of class maps, with the provenance of words, threshold, proxy and
        offsets.
        """
        entry = {
            **super().entry(score),
            "vocabulary": {"list": self.labels.list_name, "why": self.labels.why},
            "calibration": self.calibration,
            **self._proxy,
        }
        if self._largest is not None and self._unlabelled is not None:
            phrases = [phrase for phrase, _ in used_prompts(self.labels, self.protocol)]
            entry["debias"] = {
                "source": self._unlabelled.source,
                "images": self._largest.images,
                "mean_largest_cosine": dict(
                    zip(phrases, self._largest.mean.tolist(), strict=False)
                ),
            }
        return entry
