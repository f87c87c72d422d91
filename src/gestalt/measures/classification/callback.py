"""Classification of one image set at each evaluation.  N images, C classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.callback import Batch, Entry, Scorer
from gestalt.measures.classification.engine import class_logits, ranks
from gestalt.measures.classification.metric import AccuracyScore, GroupAccuracy
from gestalt.measures.classification.protocol import ClassificationProtocol
from gestalt.measures.context import Context
from gestalt.support.arrays import Floats

TOP = 5
"""The k of top-k accuracy, which is left out for a set of at most that many classes."""


class ClassificationScorer(Scorer):
    """Classify the images of one set, and log accuracies with those of chance and of the commonest
    class.

    Args:
        name, options: as ``Scorer``.
        labels: C classes and their prompts.
        protocol: how images are resized and prompts made.
        classes: the classes that compete; ``labels`` by default.
        places: P, places that images may have; 1 for a set without.

    Raises:
        ValueError: as ``Scorer``, or as ``GroupAccuracy``.
    """

    measure = "classification"
    needs: tuple[str, ...] = ("class_label",)
    protocol: ClassificationProtocol
    labels: LabelSet

    def __init__(
        self,
        name: str,
        *,
        labels: LabelSet,
        classes: LabelSet | None = None,
        places: int = 1,
        **options: Any,
    ) -> None:
        self.classes = classes or labels
        super().__init__(
            name,
            metrics={"model": GroupAccuracy(len(labels.names), places=places)},
            labels=labels,
            prompted=self.classes,
            **options,
        )

    def score(self, model: Any, batch: Batch, truth: Tensor) -> Sequence[Tensor]:
        """Classify a batch and count; nothing is drawn."""
        logits = class_logits(model, batch["image"], self.prompts, self.protocol)
        truth = truth.to(logits.device)
        self.metrics["model"].update(
            truth,
            prediction=logits.argmax(dim=1),
            rank=ranks(logits, truth),
            sample_id=batch["sample_id"],
        )
        return ()

    def values(self, score: AccuracyScore) -> dict[str, float]:
        """Return accuracy, top 5, and the scores of chance and of always the commonest class."""
        classes, values = len(self.classes.names), self.accuracies(score)
        if classes > TOP:
            values |= {f"top_{TOP}": score.top(TOP), f"top_{TOP}_chance": TOP / classes}
        return values

    def accuracies(self, score: AccuracyScore) -> dict[str, float]:
        """Return accuracy, and that of chance and of always the commonest class."""
        return {
            "accuracy": score.top(1),
            "accuracy_chance": 1 / len(self.classes.names),
            "accuracy_majority": score.majority,
        }

    def entry(self, score: AccuracyScore) -> Entry:
        """Return the integer counts of each class at each place."""
        return {
            "counts": {
                "model": [score.right.reshape(-1).tolist(), score.total.reshape(-1).tolist()]
            },
            "counts_rows": ["right", "truth"],
        }

    def arrays(self, score: AccuracyScore) -> dict[str, Floats]:
        """Return ``accuracy`` and ``top_5``: 1 or 0 of each image, (N,)."""
        right = {"accuracy": (score.rank < 1).astype(np.float64)}
        if len(self.labels.names) > TOP:
            right[f"top_{TOP}"] = (score.rank < TOP).astype(np.float64)
        return right


def build(context: Context) -> ClassificationScorer:
    """Build the scorer of a benchmark's classes at the configured size."""
    return context.scorer(ClassificationScorer, labels=context.labels)
