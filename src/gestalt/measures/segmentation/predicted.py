"""Class maps that another system predicted, read from files and scored as those of a model.  C classes, H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from torch import Tensor

from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import PredictionsProtocol
from gestalt.measures.options import Options
from gestalt.measures.segmentation.baselines import constant
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.measures.segmentation.metric import SegmentationScore


class PredictedMaps(ClassMaps):
    """Score the maps that come with the batches of one set, and draw them.  The baselines are those that need no model.

    Args:
        name, options: as ``Scorer``.
        labels: classes.
        protocol: how a map is fitted to its truth.
    """

    needs = ("labels", "prediction")

    def __init__(self, name: str, *, labels: Labels, protocol: PredictionsProtocol, **options: Unpack[Options]) -> None:
        super().__init__(name, labels=labels, protocol=protocol, unnamed=True, options=options)

    def score(self, model: Any, batch: Mapping[str, Any], truth: Sequence[Tensor]) -> list[Tensor]:
        """Count a batch."""
        predictions: list[Tensor] = batch["prediction"]
        counted = {"model": predictions}
        if self.labels.background is not None:
            counted["constant_background"] = [constant(label, index=self.labels.background) for label in truth]
        self.count(counted, truth, batch=batch)
        self.keep(batch, predictions=predictions, labels=truth)
        return predictions

    def entry(self, score: SegmentationScore) -> dict[str, Any]:
        """Return the entry as ``ClassMaps``, with the number of labelled pixels that have no predicted class."""
        return {**super().entry(score), "unnamed_pixels": int(score.confusion[:, -1].sum())}
