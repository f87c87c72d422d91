"""Retrieval: captions find their image, images find their captions.  N images, T captions, E shared width."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.images import equal_sizes, resized
from gestalt.evaluation.prompts import TEXTS_AT_ONCE, TextEmbedder
from gestalt.evaluation.protocols import ImageProtocol

RECALL_AT = (1, 5, 10)
"""The k of recall at k."""

QUERIES_AT_ONCE = 256
"""Rows of the similarity matrix that exist at one time."""


class ImageEmbedder(Protocol):
    """A model with one embedding an image."""

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, E), L2-normalised."""


class Side(NamedTuple):
    """One side of the retrieval, each row once.

    Attributes:
        vectors: (n, E) float32.
        key: (n, 1) int64, ids of images; (n, 3), for captions: image id, position among the image's captions, hash of the words.
    """

    vectors: Tensor
    key: NDArray[np.int64]


class RetrievalScore(NamedTuple):
    """What ``RetrievalRecall`` comes to, the same on every rank.

    Attributes:
        recalls: metric name to share of queries in [0, 1]: ``image_to_text_recall_at_10``, ``text_to_image_recall_at_10``, and their mean
            ``recall_at_10``, for each k.
        hits: how many queries each share of a direction counts.
        images: queries of the one direction.
        captions: queries of the other.
        image_hits: metric name of each direction to (N, 2) int64, hits and queries of each image in order of id: itself, or its captions.
    """

    recalls: dict[str, float]
    hits: dict[str, int]
    images: int
    captions: int
    image_hits: dict[str, NDArray[np.int64]]


def caption_hash(caption: str) -> int:
    """A caption as an int64, the same on every machine."""
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], "big", signed=True)


@torch.no_grad()
def embed_images(model: ImageEmbedder, images: Sequence[Tensor], *, protocol: ImageProtocol) -> Tensor:
    """B images, (3, H, W) uint8, each of its own size, to (B, E) float32; equal sizes go through the tower together."""
    vectors: dict[int, Tensor] = {}
    for positions, stack in equal_sizes([resized(image, protocol=protocol) for image in images]):
        vectors.update(zip(positions, model.embed_image(stack).float(), strict=True))
    return torch.stack([vectors[position] for position in range(len(images))])


@torch.no_grad()
def embed_captions(model: TextEmbedder, captions: Sequence[Sequence[str]], *, like: Tensor) -> Tensor:
    """All captions of a batch in order, (T, E) float32; no captions give (0, E), with E and device as ``like``."""
    texts = [caption for each in captions for caption in each]
    chunks = [model.embed_text(texts[start : start + TEXTS_AT_ONCE]).float() for start in range(0, len(texts), TEXTS_AT_ONCE)]
    return torch.cat(chunks) if chunks else like.new_zeros(0, like.shape[1], dtype=torch.float32)


def retrieval_score(images: Side, texts: Side) -> RetrievalScore:
    """Rank every caption for every image and every image for every caption.

    A caption belongs to every image that has a caption of the same words.  A query hits at k when fewer than k strangers are as similar as,
    or more similar than, its most similar partner: a tie with a stranger is a miss, so that a model that says the same of everything
    scores 0 and not 1; nan is a tie.  An image without captions is no query, but a stranger to every caption.
    """
    _, word = np.unique(texts.key[:, 2], return_inverse=True)
    owner = np.searchsorted(images.key[:, 0], texts.key[:, 0])
    owns = torch.zeros(len(images.key), int(word.max(initial=-1)) + 1, dtype=torch.bool)  # (N, distinct captions)
    owns[torch.from_numpy(owner), torch.from_numpy(word)] = True
    words = torch.from_numpy(word)
    image_ranks = _strangers_ahead(images.vectors, texts.vectors, partners=lambda rows: owns[rows][:, words])
    text_ranks = _strangers_ahead(texts.vectors, images.vectors, partners=lambda rows: owns[:, words[rows]].T)
    asked = owns.any(dim=1)
    ranks = {"image_to_text": image_ranks[asked].numpy(), "text_to_image": text_ranks.numpy()}
    return _score(ranks, owners={"image_to_text": asked.numpy().nonzero()[0], "text_to_image": owner}, images=len(images.key))


class _Partners(Protocol):
    """Which keys belong to a block of queries."""

    def __call__(self, rows: slice) -> Tensor:
        """(q, keys) bool."""


def _strangers_ahead(queries: Tensor, keys: Tensor, *, partners: _Partners) -> Tensor:
    """(n,) int64: how many keys that are no partners are at least as similar as the best partner."""
    ranks = [torch.zeros(0, dtype=torch.int64)]
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        similarity = queries[rows] @ keys.T
        partner = partners(rows).to(similarity.device)
        best = similarity.masked_fill(~partner, float("-inf")).amax(dim=1, keepdim=True)
        ranks.append((~(similarity < best) & ~partner).sum(dim=1).cpu())
    return torch.cat(ranks)


def _score(ranks: dict[str, NDArray[np.int64]], *, owners: dict[str, NDArray[np.int64]], images: int) -> RetrievalScore:
    """Ranks of the queries of the two directions, and which image each query is of, to recalls."""
    recalls: dict[str, float] = {}
    image_hits: dict[str, NDArray[np.int64]] = {}
    for k in RECALL_AT:
        for direction, rank in ranks.items():
            owner = owners[direction]
            each = [np.bincount(one, minlength=images) for one in (owner[rank < k], owner)]
            image_hits[f"{direction}_recall_at_{k}"] = np.stack(each, axis=1).astype(np.int64)
            recalls[f"{direction}_recall_at_{k}"] = int((rank < k).sum()) / len(rank) if len(rank) else float("nan")
        recalls[f"recall_at_{k}"] = (recalls[f"image_to_text_recall_at_{k}"] + recalls[f"text_to_image_recall_at_{k}"]) / 2
    hits = {key: int(counts[:, 0].sum()) for key, counts in image_hits.items()}
    return RetrievalScore(
        recalls, hits=hits, images=len(ranks["image_to_text"]), captions=len(ranks["text_to_image"]), image_hits=image_hits
    )
