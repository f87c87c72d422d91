"""Robustness to misleading backgrounds of one image set at each evaluation.  N images, C classes, h
w patch grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gestalt.measures.callback import Batch
from gestalt.measures.classification.callback import (
    AccuracyScore,
    ClassificationScorer,
    reduced_labels,
)
from gestalt.measures.classification.groups import group_metrics
from gestalt.measures.context import Entry
from gestalt.measures.evaluation.images import resize, size_of, upsample_nearest
from gestalt.measures.evaluation.pictures import ScoredImage, render_segmentation
from gestalt.measures.robustness.protocol import RobustnessProtocol
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
    tag, suffix = "maps", "_map"
    protocol: RobustnessProtocol

    @property
    def train_groups(self) -> Sequence[Sequence[int]] | None:
        """C x C, how many training images each class has at each place, which weight the adjusted
        accuracy; None without.
        """
        return getattr(self.context.image_set, "train_groups", None)

    def score(self, model: Any, batch: Batch, truth: Tensor) -> list[Tensor]:
        """Classify a batch and count.  Returns the nearest class of each patch."""
        label, maps = reduced_labels(model, batch["image"], self.prompts, self.protocol)
        self.metrics["model"].update(
            truth,
            prediction=label,
            rank=(label != truth).long(),
            sample_id=batch["sample_id"],
            place=batch["place"],
        )
        return maps

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

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw each location in the colour of its class, over the image as the tower saw it."""
        score = self.scores["model"]
        row = int(np.searchsorted(score.sample_id, shown.sample_id))
        predicted, true = (
            self.classes.names[int(values[row])] for values in (score.prediction, score.truth)
        )
        usual = "usual" if score.truth[row] == score.place[row] else "other"
        title = f"{shown.title}: a {true} at its {usual} place, named {predicted}"
        seen, names = resize(shown.image, self.protocol), self.classes.names
        return render_segmentation(
            seen,
            upsample_nearest(shown.prediction, size_of(seen)),
            names,
            background=len(self.labels.names) if self.protocol.third_class else None,
            caption=title,
        )
