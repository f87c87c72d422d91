"""Retrieval of one image set at each evaluation: recall of the whole set, ranked once.  B images, T
texts, E shared width.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gestalt.encoders.dense_model import DenseModel
from gestalt.losses.captions import text_ids
from gestalt.measures.callback import Batch, Scorer
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.images import embed_images
from gestalt.measures.evaluation.prompts import embed_texts
from gestalt.support.arrays import Ints
from gestalt.support.devices import send
from gestalt.support.label_values import PADDING

RECALL_AT = (1, 5, 10)
"""The k of recall at k."""

QUERIES_AT_ONCE = 256
"""Largest number of rows of the similarity matrix in memory at one time."""


class RetrievalScore(NamedTuple):
    """The result of ``RetrievalRecall``, the same on every rank.

    Attributes:
        recalls: metric name to share of queries in [0, 1]: ``image_to_text_recall_at_10``,
            ``text_to_image_recall_at_10``, and their mean ``recall_at_10``, for each k.
        chance: ``<metric name>_chance`` to the recall that a random ranking has on average.
        images: queries from image to text.
        captions: queries from text to image.
        image_hits: metric name of each direction to (N, 2) int64, hits and queries of each image in
            order of id: itself, or its captions.
    """

    recalls: dict[str, float]
    chance: dict[str, float]
    images: int
    captions: int
    image_hits: dict[str, Ints]


class RetrievalRecall(Metric):
    """Recall at 1, 5 and 10 in both directions over a whole set: embeddings and ids are gathered,
    then ranked once.

    States hold one row per image and one per caption.
    """

    image: list[Tensor]
    image_id: list[Tensor]
    text: list[Tensor]
    text_id: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("image", "image_id", "text", "text_id"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self, image: Tensor, text: Tensor, *, sample_id: Tensor, captions: Sequence[Sequence[str]]
    ) -> None:
        """Add a batch.

        Args:
            image: (B, E), L2-normalised.
            text: (T, E), L2-normalised, the captions of the first image, then of the second, and so
                on.
            sample_id: (B,), the ids in the set; ``PADDING`` is not scored.
            captions: B lists, T captions in all.
        """
        keys = [
            (index, position, words)
            for index, texts in zip(sample_id.tolist(), captions, strict=True)
            for position, words in enumerate(text_ids(list(texts)).tolist())
        ]
        if len(keys) != len(text):
            raise ValueError(f"{len(text)} caption embeddings for {len(keys)} captions")
        self.image.append(image.float().to(self.device))
        self.image_id.append(send(sample_id.long(), self.device).reshape(-1, 1))
        self.text.append(text.float().to(self.device))
        of_captions = torch.tensor(keys, dtype=torch.int64).reshape(-1, 3)
        self.text_id.append(send(of_captions, self.device))

    def compute(self) -> RetrievalScore:
        """Rank every caption for every image of all ranks and every image for every caption.

        A caption belongs to every image that has a caption of the same words.  A query hits at k
        when fewer than k strangers are as similar as, or more similar than, its most similar
        partner: a tie with a stranger is a miss, so that a model that embeds everything the same
        scores 0 and not 1; nan is a tie.  An image without captions is not a query, only a stranger
        to every caption.
        """
        images, image_key = _once(self.image, keys=self.image_id)
        texts, text_key = _once(self.text, keys=self.text_id)
        _, word = np.unique(text_key[:, 2], return_inverse=True)
        owner = np.searchsorted(image_key[:, 0], text_key[:, 0])
        # (N, distinct captions)
        owns = np.zeros((len(images), word.max(initial=-1) + 1), dtype=np.bool_)
        owns[owner, word] = True
        partners = torch.from_numpy(owns[:, word])  # (N, captions)
        image_ranks = _strangers_ahead(images, texts, partners)
        text_ranks = _strangers_ahead(texts, images, partners.T)
        captioned = owns.any(axis=1)
        of_images, of_texts = partners.sum(dim=1).numpy(), partners.sum(dim=0).numpy()
        # the ranks of the queries, their images, their numbers of partners, and of candidates
        queries = {
            "image_to_text": (
                image_ranks[captioned],
                np.flatnonzero(captioned),
                of_images[captioned],
                len(texts),
            ),
            "text_to_image": (text_ranks, owner, of_texts, len(images)),
        }
        recalls: dict[str, float] = {}
        expected: dict[str, float] = {}
        image_hits: dict[str, Ints] = {}
        for k in RECALL_AT:
            both, both_expected = [], []
            for direction, (ranks, owners, numbers, candidates) in queries.items():
                found = np.bincount(owners[ranks < k], minlength=len(images))
                asked = np.bincount(owners, minlength=len(images))
                counts = np.column_stack([found, asked])
                name = f"{direction}_recall_at_{k}"
                image_hits[name] = counts
                hits, total = counts.sum(axis=0).tolist()
                recalls[name] = hits / total if total else float("nan")
                both.append(recalls[name])
                both_expected.append(chance(numbers, candidates, k) if total else float("nan"))
                expected[f"{name}_chance"] = both_expected[-1]
            recalls[f"recall_at_{k}"] = sum(both) / 2
            expected[f"recall_at_{k}_chance"] = sum(both_expected) / 2
        return RetrievalScore(
            recalls,
            expected,
            images=int(captioned.sum()),
            captions=len(texts),
            image_hits=image_hits,
        )


def chance(partners: Ints, candidates: int, k: int) -> float:
    """Return the expected recall at k of random rankings.

    The first k of n candidates hold none of the m partners of a query with the probability that
    each of k draws without replacement misses: the product of (n - m - i) / (n - i) for i below k.

    Args:
        partners: m of each query, (Q,).
        candidates: n.
        k: number of candidates that are looked at.
    """
    drawn = np.arange(min(k, candidates))
    missed = (candidates - partners[:, None] - drawn).clip(0) / (candidates - drawn)
    return float(1 - missed.prod(axis=1).mean())


def _once(vectors: Any, keys: Any) -> tuple[Tensor, Ints]:
    """Return the vectors and keys of two list states, concatenated by the sync or not, sorted by
    key, each key once, without padding: the same rows in the same order for any number of ranks.
    """
    stacked = dim_zero_cat(vectors)
    different, first = np.unique(dim_zero_cat(keys).cpu().numpy(), axis=0, return_index=True)
    real = different[:, 0] != PADDING
    return stacked[torch.from_numpy(first[real]).to(stacked.device)], different[real]


def _strangers_ahead(queries: Tensor, keys: Tensor, partners: Tensor) -> Ints:
    """Count for each query the keys that are not partners and at least as similar as the best
    partner, (n,) int64.

    ``partners`` is (n, keys) bool, True for the keys that belong to a query.
    """
    ranks = []
    # equal parts: the product of a single row rounds equal keys unequally
    parts = max(1, -(-len(queries) // QUERIES_AT_ONCE))
    for rows, partner in zip(
        queries.tensor_split(parts), partners.to(queries.device).tensor_split(parts), strict=True
    ):
        similarity = rows @ keys.T
        best = similarity.masked_fill(~partner, float("-inf")).amax(dim=1, keepdim=True)
        ranks.append((~(similarity < best) & ~partner).sum(dim=1).cpu())
    return torch.cat(ranks).numpy()


class Retrieval(Scorer):
    """Rank every caption for every image of a set and the reverse, and log the recalls; captions
    are embedded as they are written.

    Args:
        context: that of every scorer.
    """

    measure, needs = "retrieval", ("captions",)

    def __init__(self, context: Context) -> None:
        super().__init__(context, metrics={"model": RetrievalRecall()})
        self.length = None  # its own count of images is of those with captions

    def score(self, model: DenseModel, batch: Batch, truth: Any) -> tuple[()]:
        """Embed a batch; nothing is drawn."""
        image = embed_images(model, batch["image"], self.protocol)
        texts = list(chain.from_iterable(truth))
        self.metrics["model"].update(
            image,
            embed_texts(model, texts) if texts else image[:0],
            sample_id=batch["sample_id"],
            captions=truth,
        )
        return ()

    def values(self, score: RetrievalScore) -> dict[str, float]:
        """Return recall at each k, in both directions, and their mean, each with its chance."""
        return score.recalls | score.chance

    def entry(self, score: RetrievalScore) -> Entry:
        """Return the integer hits."""
        return {
            "captions": score.captions,
            "hits": {key: int(counts[:, 0].sum()) for key, counts in score.image_hits.items()},
        }

    def arrays(self, score: RetrievalScore) -> dict[str, Ints]:
        """Return ``<direction>_recall_at_<k>``: hits and queries of each image, (N, 2)."""
        return score.image_hits
