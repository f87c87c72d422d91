"""Robustness to misleading backgrounds of one image set at each evaluation.  B batch, N images, C
classes.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.classification.callback import AccuracyScore, ClassificationScorer
from gestalt.measures.context import Entry
from gestalt.measures.robustness.groups import group_metrics
from gestalt.measures.robustness.protocol import RobustnessProtocol
from gestalt.measures.robustness.rules import reduced_labels, with_third
from gestalt.support.arrays import Floats


class Robustness(ClassificationScorer):
    """Classify images whose background misleads, by a dense map and a rule, and measure the
    accuracy that it costs.

    Each class has a place where it is usual.  The table has the accuracy of each class at each
    place; a class's *delta* is the accuracy that it loses at other places.

    Args:
        context: its benchmark's label set has the C classes and their prompts.
    """

    measure, needs = "robustness", ("class_label", "place")
    protocol: RobustnessProtocol

    @property
    def train_groups(self) -> Sequence[Sequence[int]] | None:
        """C x C, how many training images each class has at each place, which weight the adjusted
        accuracy; None without.
        """
        return getattr(self.context.image_set, "train_groups", None)

    def competing(self, labels: LabelSet, protocol: RobustnessProtocol) -> LabelSet:
        """Return the labels' classes, and the third one if the protocol has one."""
        return with_third(labels, protocol.third_class)

    def classify(
        self, model: DenseModel, images: Sequence[Tensor], truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the class that each image is given, and 0 where it is right, else 1, both (B,)
        int64.
        """
        label = reduced_labels(model, images, self.prompts, self.protocol)
        return label, (label != truth).long()

    def values(self, score: AccuracyScore) -> dict[str, float]:
        """Return accuracy over images, over groups by training share or equally, of the worst;
        cells; deltas; the third class.
        """
        groups = group_metrics(score.cells, names=self.labels.names, train_groups=self.train_groups)
        return {
            **self.accuracies(score),
            "third_class": float(self._third(score).mean()) if score.images else float("nan"),
            **{name: float(value) for name, value in groups.items()},
        }

    def entry(self, score: AccuracyScore) -> Entry:
        """Return the table as integers."""
        entry: Entry = {
            "names_of_map": list(self.classes.names),
            "right": score.right.tolist(),
            "total": score.total.tolist(),
            "table_rows": (
                "true class; a column a place, in the order of the classes that it goes with by "
                "habit"
            ),
            **super().entry(score),
        }
        if self.train_groups is not None:
            entry["train_groups"] = [list(row) for row in self.train_groups]
        return entry

    def arrays(self, score: AccuracyScore) -> dict[str, Floats]:
        """Return ``accuracy`` and ``third_class``: 1 or 0 of each image, and ``group``: C x class +
        place; all (N,).
        """
        return {
            "accuracy": (score.rank == 0).astype(np.float64),
            "third_class": self._third(score),
            "group": (score.truth * len(self.labels.names) + score.place).astype(np.float64),
        }

    def _third(self, score: AccuracyScore) -> Floats:
        """Return 1 for each image that was given the third class, else 0, (N,)."""
        return (score.prediction >= len(self.labels.names)).astype(np.float64)
