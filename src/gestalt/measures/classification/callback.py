"""Classification of one image set at each evaluation: the class whose prompts are nearest to an
image, and the accuracy of each class and each group, from one row of integers per image.  B batch,
N images, C classes, P places, K prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Batch, Scorer
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.confusion import divide_or_nan
from gestalt.measures.evaluation.images import embed_images
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.evaluation.protocols import PromptProtocol
from gestalt.measures.rows import RowMetric
from gestalt.support.arrays import Floats, Ints
from gestalt.support.devices import send
from gestalt.support.label_values import PADDING


def by_class(cosines: Tensor, prompts: ClassEmbeddings) -> Tensor:
    """Reduce cosines with prompts (..., K) to cosines with classes (..., C): the nearest prompt of
    each; equal phrases have equal ones.
    """
    cosines = prompts.tie(cosines, dim=-1)
    empty = cosines.new_full((*cosines.shape[:-1], prompts.classes), -torch.inf)
    return empty.scatter_reduce(-1, prompts.class_index.expand_as(cosines), cosines, reduce="amax")


def ranks(logits: Tensor, truth: Tensor) -> Tensor:
    """Count the classes ranked before the true one.  Among equal logits the first class comes
    first; NaN comes before all.

    Logits are (B, C); truth is (B,) int64 in [0, C); negative values (padding) count as 0.

    Returns:
        (B,) int64 in [0, C): 0 is right, below k is right among k.
    """
    place = torch.arange(logits.shape[1], device=logits.device)
    truth = truth.clamp_min(0).unsqueeze(1)
    true_logit = logits.gather(1, truth)
    ahead = ~(logits < true_logit) & ((place < truth) | (logits != true_logit))
    return (ahead & (place != truth)).sum(dim=1)


class AccuracyScore(NamedTuple):
    """The result of ``GroupAccuracy``, the same on every rank.

    Attributes:
        images: number of images that were counted.
        sample_id: (N,) int64, ascending.
        truth: (N,) int64, the true class.
        place: (N,) int64, where the image was taken; 0 without places.
        prediction: (N,) int64, the predicted class.
        rank: (N,) int64, number of classes that came before the true one.
        right: (C, P) int64, images of each class at each place that were classified right.
        total: (C, P) int64, all images of each class at each place.
    """

    images: int
    sample_id: Ints
    truth: Ints
    place: Ints
    prediction: Ints
    rank: Ints
    right: Ints
    total: Ints

    def top(self, count: int) -> float:
        """Return the share of images whose true class is among the first ``count``, [0, 1]; nan
        without images.
        """
        return int((self.rank < count).sum()) / self.images if self.images else float("nan")

    @property
    def cells(self) -> Floats:
        """(C, P) accuracy of each class at each place; nan where it has no image."""
        return divide_or_nan(self.right, self.total)

    @property
    def majority(self) -> float:
        """The accuracy of predicting the commonest class of the set for every image."""
        return int(self.total.sum(axis=1).max()) / self.images if self.images else float("nan")


class GroupAccuracy(RowMetric):
    """Accuracy over a whole set, of each class and of each class at each place.

    The state is a list of (n, 5) int64 rows: image id, true class, place, predicted class, and the
    true class's rank.

    Args:
        classes: C, those that an image may have; a prediction may be one more.
        places: P, 1 for a set without places.

    Raises:
        ValueError: a true class or a place that does not exist, with the sample's id.
    """

    def __init__(self, classes: int, *, places: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.places = places

    def update(
        self,
        truth: Tensor,
        *,
        prediction: Tensor,
        rank: Tensor,
        sample_id: Tensor,
        place: Tensor,
    ) -> None:
        """Count a batch.

        Args:
            truth: (B,) int64 in [0, C).
            prediction: (B,) int64.
            rank: (B,) int64; 0 is right.
            sample_id: (B,), the ids in the set; ``PADDING`` is not scored.
            place: (B,) int64 in [0, P).
        """
        columns = [
            send(part.long(), self.device) for part in (sample_id, truth, place, prediction, rank)
        ]
        for name, values, count in (
            ("class", columns[1], self.classes),
            ("place", columns[2], self.places),
        ):
            wrong = (columns[0] != PADDING) & ((values < 0) | (values >= count))
            if wrong.any():
                index = int(wrong.nonzero()[0])
                raise ValueError(
                    f"sample {int(columns[0][index])}: {name} {int(values[index])} does not exist, "
                    f"there are 0 to {count - 1}"
                )
        self.rows.append(torch.stack(columns, dim=1))

    def compute(self) -> AccuracyScore:
        """Compute the set's score over all ranks."""
        rows = self.unique_rows()
        sample_id, truth, place, prediction, rank = rows.T
        cell, shape = truth * self.places + place, (self.classes, self.places)
        cells = math.prod(shape)
        return AccuracyScore(
            images=len(rows),
            sample_id=sample_id,
            truth=truth,
            place=place,
            prediction=prediction,
            rank=rank,
            right=np.bincount(cell[rank == 0], minlength=cells).reshape(shape),
            total=np.bincount(cell, minlength=cells).reshape(shape),
        )


TOP = 5
"""The k of top-k accuracy, which is left out for a set of at most that many classes."""


class ClassificationScorer(Scorer):
    """Classify the images of one set, and log accuracies with those of chance and of the commonest
    class.

    Args:
        context: its benchmark's label set has the C classes and their prompts.

    Attributes:
        classes: the classes that compete, those of the labels and perhaps further ones.

    Raises:
        ValueError: a class without a prompt.
    """

    measure = "classification"
    needs: tuple[str, ...] = ("class_label",)
    protocol: PromptProtocol
    labels: LabelSet

    def __init__(self, context: Context) -> None:
        labels = context.labels
        self.classes = self.competing(labels, context.protocol(self.measure))
        places = len(labels.names) if "place" in self.needs else 1
        super().__init__(
            context,
            metrics={"model": GroupAccuracy(len(labels.names), places=places)},
            labels=labels,
            prompted=self.classes,
        )

    def competing(self, labels: LabelSet, protocol: Any) -> LabelSet:
        """Return the classes that compete by their prompts, first those of the labels; none of them
        is a background.
        """
        return replace(labels, background=None)

    def score(self, model: DenseModel, batch: Batch, truth: Tensor) -> tuple[()]:
        """Classify a batch and count; nothing is drawn."""
        prediction, rank = self.classify(model, batch["image"], truth)
        self.metrics["model"].update(
            truth,
            prediction=prediction,
            rank=rank,
            sample_id=batch["sample_id"],
            place=batch["place"] if "place" in self.needs else torch.zeros_like(truth),
        )
        return ()

    def classify(
        self, model: DenseModel, images: Sequence[Tensor], truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the class that each image is given, and the rank of its true one, both (B,)
        int64.
        """
        vectors = embed_images(model, images, self.protocol)
        logits = by_class(vectors @ self.prompts.vectors.T, self.prompts)
        return logits.argmax(dim=1), ranks(logits, truth)

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
