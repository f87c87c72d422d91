"""Classification: which class each image of one set is taken for, at each evaluation.  N images, C classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.prompts import ClassEmbeddings, Labels, class_embeddings, templates_digest, used_prompts
from gestalt.evaluation.protocols import ClassificationProtocol
from gestalt.measures.callback import Scorer, without_nan
from gestalt.measures.classification.engine import class_logits, ranks
from gestalt.measures.classification.metric import AccuracyScore, GroupAccuracy

TOP = 5
"""The k of top-k, beside the first; left out where a set has no more classes than that."""


class Classification(Scorer[AccuracyScore]):
    """Names the images of one set, whatever the number of ranks, and logs accuracies beside what needs no model.

    Args:
        name: of the benchmark.
        labels: classes and their prompts.
        protocol: how images are resized and prompts made.
        length: how many images the whole set has.
        image_set: as ``Scorer``.

    Raises:
        ValueError: a class has no prompt; as ``GroupAccuracy``; or as ``Scorer``.
    """

    measure, needs = "classification", "class_label"

    def __init__(self, name: str, *, labels: Labels, protocol: ClassificationProtocol, length: int, image_set: str | None = None) -> None:
        used_prompts(labels, protocol=protocol.prompting())
        super().__init__(name, metrics={"model": GroupAccuracy(len(labels.names))}, image_set=image_set)
        self.labels = labels
        self.protocol = protocol
        self.length = length
        self._prompts: ClassEmbeddings | None = None

    def begin(self, model: Any) -> None:
        """Embed the classes anew, since the text tower trains."""
        self._prompts = class_embeddings(model, self.labels, protocol=self.protocol.prompting())

    def score(self, model: Any, batch: Mapping[str, Any]) -> Sequence[Tensor]:
        """Name a batch and count; there is nothing to draw."""
        assert self._prompts is not None
        logits = class_logits(model, batch["image"], prompts=self._prompts, protocol=self.protocol)
        truth = batch[self.needs].to(logits.device)
        rank = ranks(logits, truth)
        self.metrics["model"].update(truth, prediction=logits.argmax(dim=1), rank=rank, sample_id=batch["sample_id"])
        return ()

    def logged(self) -> dict[str, float]:
        """Accuracy, top 5, and what chance and the commonest class would score."""
        score, classes = self.scores["model"], len(self.labels.names)
        values = {"accuracy": score.top(1), "accuracy_chance": 1 / classes, "accuracy_majority": score.majority}
        if classes > TOP:
            values |= {f"top_{TOP}": score.top(TOP), f"top_{TOP}_chance": TOP / classes}
        return without_nan(self.name, values)

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record: metrics, integer counts of each class, provenance.  Empty before the first."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "images_in_set": self.length,
            "names": list(self.labels.names),
            "counts": {"model": [score.right.sum(axis=1).tolist(), score.total.sum(axis=1).tolist()]},
            "counts_rows": ["right", "truth"],
            "label_set": self.labels.digest(),
            "templates": templates_digest(self.protocol.prompting()),
        }

    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """``<set>/accuracy`` and ``<set>/top_5``: 1 or 0 of each image, (N,) in order of image id; empty before the first score."""
        if not self.scores:
            return {}
        rank = self.scores["model"].rank
        right = {f"{self.name}/accuracy": (rank < 1).astype(np.float64)}
        return right | ({f"{self.name}/top_{TOP}": (rank < TOP).astype(np.float64)} if len(self.labels.names) > TOP else {})
