"""Classification of one image set at each evaluation.  N images, C classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.callback import Scorer
from gestalt.measures.classification.engine import class_logits, ranks
from gestalt.measures.classification.metric import AccuracyScore, GroupAccuracy
from gestalt.measures.classification.protocol import ClassificationProtocol
from gestalt.measures.context import Context

TOP = 5
"""The k of top-k accuracy, which is left out for a set of at most that many classes."""


class ClassificationScorer(Scorer[AccuracyScore]):
    """Classify the images of one set, and log accuracies with those of chance and of the commonest
    class.

    Args:
        name, options: as ``Scorer``.
        labels: classes and their prompts.
        protocol: how images are resized and prompts made.

    Raises:
        ValueError: as ``Scorer``, or as ``GroupAccuracy``.
    """

    measure, needs = "classification", ("class_label",)
    protocol: ClassificationProtocol
    labels: LabelSet

    def __init__(
        self, name: str, *, labels: LabelSet, protocol: ClassificationProtocol, **options: Any
    ) -> None:
        metrics = {"model": GroupAccuracy(len(labels.names))}
        super().__init__(
            name, protocol=protocol, metrics=metrics, labels=labels, prompted=labels, **options
        )

    def score(self, model: Any, batch: Mapping[str, Any], truth: Tensor) -> Sequence[Tensor]:
        """Classify a batch and count; nothing is drawn."""
        logits = class_logits(model, batch["image"], prompts=self.prompts, protocol=self.protocol)
        truth = truth.to(logits.device)
        rank = ranks(logits, truth)
        self.metrics["model"].update(
            truth, prediction=logits.argmax(dim=1), rank=rank, sample_id=batch["sample_id"]
        )
        return ()

    def values(self, score: AccuracyScore) -> dict[str, float]:
        """Return accuracy, top 5, and the scores of chance and of always the commonest class."""
        classes = len(self.labels.names)
        values = {
            "accuracy": score.top(1),
            "accuracy_chance": 1 / classes,
            "accuracy_majority": score.majority,
        }
        if classes > TOP:
            values |= {f"top_{TOP}": score.top(TOP), f"top_{TOP}_chance": TOP / classes}
        return values

    def entry(self, score: AccuracyScore) -> dict[str, Any]:
        """Return the integer counts of each class."""
        return {
            "counts": {
                "model": [score.right.sum(axis=1).tolist(), score.total.sum(axis=1).tolist()]
            },
            "counts_rows": ["right", "truth"],
        }

    def arrays(self, score: AccuracyScore) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` and ``top_5``: 1 or 0 of each image, (N,)."""
        right = {"accuracy": (score.rank < 1).astype(np.float64)}
        if len(self.labels.names) > TOP:
            right[f"top_{TOP}"] = (score.rank < TOP).astype(np.float64)
        return right


def build(context: Context) -> ClassificationScorer:
    """Build the scorer of a benchmark's classes at the configured size."""
    protocol = context.protocol("classification")
    return ClassificationScorer(
        context.benchmark.name, labels=context.labels, protocol=protocol, **context.options
    )
