"""Matching: clusters of one whole image set against its classes, at each evaluation.  The clusters
are fitted to a sample of the set's tokens, assigned to every pixel, and named after classes by one
assignment.  B batch, N tokens or images, D width, n or K clusters, C classes, h w patch grid, H W
pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.image_sets import ImageSet, LabelSet
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Batch, Scorer, spread
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.confusion import mask_entry, matched_values
from gestalt.measures.evaluation.images import Size, resize, sizes_of
from gestalt.measures.grouping.engine import (
    BottomUp,
    kmeans_centres,
    nearness,
    one_thread,
    regions,
    wide_tokens,
)
from gestalt.measures.matching.protocol import MatchingProtocol
from gestalt.measures.segmentation.baselines import patch_oracle
from gestalt.measures.segmentation.mean_iou import MeanIoU, SegmentationScore
from gestalt.support.arrays import Floats, Ints
from gestalt.support.devices import send
from gestalt.support.ranks import shared_by_ranks

NO_CLASS = -1
"""The class of an unmatched cluster."""


@dataclass(kw_only=True)
class MatchedScore(SegmentationScore):
    """The result of ``MatchedIoU``: counts under the one match; its confusion matrix is (K, C),
    clusters by classes.

    Attributes:
        match: (K,) int64, the class of each cluster, or ``NO_CLASS``.
    """

    match: Ints


def best_match(confusion: Ints) -> Ints:
    """Assign clusters to classes (K,), each at most once, with the most pixels right; ``NO_CLASS``
    for unmatched clusters.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(confusion, maximize=True)
    match = np.full(len(confusion), NO_CLASS, dtype=np.int64)
    match[rows] = columns
    return match


class MatchedIoU(MeanIoU):
    """Mean IoU of a whole set's K clusters with the C classes that they match.

    Source: mhamilton723/STEGO at 009bc45, utils.py (UnsupervisedMetrics): one assignment over the
    summed confusion matrix.
    """

    def score(self, confusion: Ints, rows: Ints, **facts: Any) -> MatchedScore:
        """Match once, and return the score of the rows with clusters named by their classes."""
        total = np.ascontiguousarray(confusion.T)
        match = best_match(total)
        rows[:, 2] = match[rows[:, 2]]
        named = super().score(total, rows, **facts)
        return MatchedScore(**vars(named), match=match)


def draw_tokens(tokens: Tensor, index: int, protocol: MatchingProtocol) -> Tensor:
    """Draw the tokens of an image, out of (N, D), that centres are fitted to; they depend on the
    protocol's seed and the index alone.
    """
    order = np.random.default_rng([protocol.seed, index]).permutation(len(tokens))[
        : protocol.fit_tokens
    ]
    return tokens[torch.from_numpy(np.sort(order))]


def fit_centres(
    model: DenseModel,
    images: ImageSet,
    *,
    clusters: int,
    protocol: MatchingProtocol,
    device: torch.device,
) -> Floats:
    """Fit centres (m, D) to tokens of images of a set, m <= clusters, the same on every rank, which
    all must call it.

    Each rank runs the tower on its share of the images, one at a time, so that no batch depends on
    the number of ranks, and fits to the tokens of all.

    Args:
        model: in eval mode, on the device.
        images: the set.
        clusters: n.
        protocol: resizing, number of images, tokens, draw, starts.
        device: where the tower is.
    """

    def tokens_of(index: int) -> Floats:
        image = resize(images.sample(index)["image"].to(device), protocol)
        (tokens,) = set_tokens(model, image[None], protocol)
        return draw_tokens(tokens.flatten(1).T, index, protocol).numpy()

    chosen = spread(len(images), protocol.fit_images)
    return kmeans_centres(np.concatenate(shared_by_ranks(chosen, tokens_of)), clusters, protocol)


@torch.no_grad()
def set_tokens(model: DenseModel, stack: Tensor, protocol: MatchingProtocol) -> Tensor:
    """Compute the tokens of images of one size: (b, D, h, w) float64 on the CPU.

    Raises:
        ValueError: a token contains NaN or infinity.
    """
    return functional.normalize(wide_tokens(model, stack, protocol), dim=1)


def cluster(
    model: DenseModel,
    images: Sequence[Tensor],
    *,
    centres: Floats,
    protocol: MatchingProtocol,
    sizes: Sequence[Size],
) -> list[BottomUp]:
    """Find the nearest of the centres (m, D) for every pixel of B images, (3, H, W) uint8 of any
    sizes, at the ``sizes`` of their labels.

    The model must be in eval mode, the protocol the one that the centres were fitted under.
    """

    def compare(stack: Tensor) -> Iterator[Tensor]:
        for tokens in set_tokens(model, stack, protocol):
            with one_thread():
                near = nearness(tokens.flatten(1).T, torch.from_numpy(centres))
            yield send(near.reshape(-1, *tokens.shape[1:]).float(), stack.device)

    return regions(images, protocol, sizes, compare)


class Matching(Scorer):
    """Cluster the patches of one set, match clusters to classes once, and log numbers.

    Args:
        context: its benchmark's label set has the classes, whose prompts are not used; centres are
            fitted to its image set before the first batch.
    """

    measure, needs = "matching", ("labels",)
    fixed = frozenset({"one_cluster", "patch_oracle"})
    protocol: MatchingProtocol
    labels: LabelSet
    _centres: Floats  # of the last evaluation that began

    def __init__(self, context: Context) -> None:
        classes = len(context.labels.names)
        self.clusters: int = context.protocol(self.measure).clusters or classes
        sizes = {"model": self.clusters, "one_cluster": 1, "patch_oracle": classes}
        metrics = {key: MatchedIoU(classes, clusters=clusters) for key, clusters in sizes.items()}
        super().__init__(context, metrics=metrics, labels=context.labels)

    def begin(self, model: DenseModel, **embedding: Any) -> None:
        """Prepare an evaluation, and fit the protocol to the patches and the centres to the tower,
        since it trains; all ranks share the work.
        """
        super().begin(model, **embedding)
        self.protocol = self.protocol.fitted_to(model.patch_stride)
        self._centres = fit_centres(
            model,
            self.context.image_set,
            clusters=self.clusters,
            protocol=self.protocol,
            device=self.metrics["model"].device,
        )

    def score(self, model: DenseModel, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Assign every pixel to a cluster, and count."""
        images = cluster(
            model,
            batch["image"],
            centres=self._centres,
            protocol=self.protocol,
            sizes=sizes_of(truth),
        )
        return self.count(
            [image.groups for image in images],
            truth,
            batch=batch,
            one_cluster=map(torch.zeros_like, truth),
            patch_oracle=map(patch_oracle, truth, [image.grid for image in images]),
        )

    def values(self, score: MatchedScore) -> dict[str, float]:
        """Return the scores of the model and the baselines, and each class's IoU."""
        return matched_values(self.labels.names, self.scores)

    def entry(self, score: MatchedScore) -> Entry:
        """Return the match, and the counts of the model and the baselines."""
        return {
            "clusters": self.clusters,
            "match": [None if index == NO_CLASS else index for index in score.match.tolist()],
            **mask_entry(self.scores),
        }

    def arrays(self, score: MatchedScore) -> dict[str, Ints]:
        """Return the counts of each image, and the confusion matrix of the set.

        ``matched_miou``: (N, 3, C) pixels of intersection, prediction and truth under the one
        match. ``matched_confusion``: (K, C) labelled pixels of the whole set, clusters by classes.
        """
        return {"matched_miou": score.image_counts, "matched_confusion": score.confusion}
