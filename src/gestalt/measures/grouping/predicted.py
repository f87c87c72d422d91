"""Groups that another system predicted, read from files and scored as those of a model.  H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from torch import Tensor

from gestalt.evaluation.protocols import PredictionsProtocol
from gestalt.measures.grouping.callback import GroupMaps
from gestalt.measures.options import Options
from gestalt.measures.segmentation.baselines import blocks, constant


class PredictedGroups(GroupMaps):
    """Score the group maps that come with the batches of one set, (H, W) uint8 from 0 on.  The baselines are those that need no model.

    Args:
        name, options: as ``Scorer``.
        protocol: how a map is fitted to its truth.
    """

    needs = ("instance", "prediction")

    def __init__(self, name: str, *, protocol: PredictionsProtocol, **options: Unpack[Options]) -> None:
        super().__init__(name, protocol=protocol, options=options)

    def score(self, model: Any, batch: Mapping[str, Any], truth: Sequence[Tensor]) -> list[Tensor]:
        """Count a batch."""
        predictions: list[Tensor] = batch["prediction"]
        counts = [int(groups.max()) + 1 for groups in predictions]
        self.groups = max(self.groups or 0, *counts)
        baselines = {
            "whole_image": [constant(instance, index=0) for instance in truth],
            "blocks": [blocks(instance, count=count) for instance, count in zip(truth, counts, strict=True)],
        }
        self.count({"model": predictions, **baselines}, truth, batch=batch)
        return predictions
