"""Classification of one image set at each evaluation.  N images, C classes."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import CLASSIFICATION_PROTOCOLS, ClassificationProtocol
from gestalt.measures.callback import Scorer
from gestalt.measures.classification.engine import class_logits, ranks
from gestalt.measures.classification.metric import AccuracyScore, GroupAccuracy
from gestalt.measures.context import Context
from gestalt.measures.options import Options

TOP = 5
"""The k of top-k accuracy, which is left out for a set of at most that many classes."""


class Classification(Scorer[AccuracyScore]):
    """Classify the images of one set, and log accuracies with those of chance and of the commonest class.

    Args:
        name, options: as ``Scorer``.
        labels: classes and their prompts.
        protocol: how images are resized and prompts made.

    Raises:
        ValueError: as ``Scorer``, or as ``GroupAccuracy``.
    """

    measure, needs = "classification", ("class_label",)
    protocol: ClassificationProtocol
    labels: Labels

    def __init__(self, name: str, *, labels: Labels, protocol: ClassificationProtocol, **options: Unpack[Options]) -> None:
        metrics = {"model": GroupAccuracy(len(labels.names))}
        super().__init__(name, protocol=protocol, metrics=metrics, labels=labels, prompted=(labels, protocol.prompting()), options=options)

    def score(self, model: Any, batch: Mapping[str, Any], truth: Tensor) -> Sequence[Tensor]:
        """Classify a batch and count; nothing is drawn."""
        logits = class_logits(model, batch["image"], prompts=self.prompts, protocol=self.protocol)
        truth = truth.to(logits.device)
        rank = ranks(logits, truth)
        self.metrics["model"].update(truth, prediction=logits.argmax(dim=1), rank=rank, sample_id=batch["sample_id"])
        return ()

    @property
    def has_top(self) -> bool:
        """True if the set has more than ``TOP`` classes."""
        return len(self.labels.names) > TOP

    def values(self, score: AccuracyScore) -> dict[str, float]:
        """Return accuracy, top 5, and the scores of chance and of always the commonest class."""
        classes = len(self.labels.names)
        values = {"accuracy": score.top(1), "accuracy_chance": 1 / classes, "accuracy_majority": score.majority}
        return values | ({f"top_{TOP}": score.top(TOP), f"top_{TOP}_chance": TOP / classes} if self.has_top else {})

    def entry(self, score: AccuracyScore) -> dict[str, Any]:
        """Return the integer counts of each class."""
        return {
            "counts": {"model": [score.right.sum(axis=1).tolist(), score.total.sum(axis=1).tolist()]},
            "counts_rows": ["right", "truth"],
        }

    def arrays(self, score: AccuracyScore) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` and ``top_5``: 1 or 0 of each image, (N,)."""
        right = {"accuracy": (score.rank < 1).astype(np.float64)}
        return right | ({f"top_{TOP}": (score.rank < TOP).astype(np.float64)} if self.has_top else {})


def build(context: Context) -> Classification:
    """Build the scorer of a benchmark's classes at the configured size."""
    protocol = context.protocol("classification", CLASSIFICATION_PROTOCOLS)
    return Classification(context.benchmark.name, labels=context.labels, protocol=protocol, **context.options)
