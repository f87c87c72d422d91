"""The losses of image-text pairs over all ranks, with the exact gradient: contrastive and SigLIP's.

B pairs on this rank, G pairs on all ranks, E shared width.
"""

import hashlib
from typing import Any, Literal

import torch
from torch import Tensor

from gestalt.losses import blockwise
from gestalt.losses.matrix import ContrastiveTerms, PairMatrix, compare, widen
from gestalt.support.devices import without_autocast
from gestalt.support.ranks import world_size

SMALL = 2**18
"""Most similarities for which the formula is computed as it stands, on one rank; from there on
``blockwise`` is faster.
"""


def cross_entropy(
    image: Tensor, texts: Tensor, log_scale: Tensor, matrix: PairMatrix
) -> tuple[Tensor, Tensor | None]:
    """Sum the cross-entropies of all images over all texts, and of all texts over all images, on
    one rank.

    Args:
        image: (B, E).
        texts: (B, E).
        log_scale: scalar.
        matrix: which of them are compared, and which are positives.

    Returns:
        The sum, and (B,) bool, True for images whose nearest text has their caption; None if not
        measured.
    """
    logits = matrix.masked((image * log_scale.exp()) @ texts.T)
    log_p = logits.log_softmax(dim=1) + logits.log_softmax(dim=0)
    positives = (
        (log_p * matrix.targets(logits.dtype)).sum()
        if matrix.spread
        else matrix.sum_of_positives(log_p)
    )
    return -positives, matrix.correct(logits.detach())


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    text_id: Tensor,
    directions: Literal["sum", "mean"] = "sum",
    equal_texts: Literal["negatives", "positives"] = "negatives",
    valid: Tensor | None = None,
    chunk: int | None = None,
    measure: bool = True,
) -> ContrastiveTerms:
    """Compute the cross-entropy of images against the captions of all ranks, and of captions
    against the images.

    The mean over ranks of ``loss`` is the loss of the global batch; so is every gradient under DDP,
    which averages over ranks. Similarities are computed in float32 or wider, also under autocast.

    Args:
        image: (B, E), L2-normalised. B is the same on every rank.
        text: (B, E), L2-normalised; row b belongs to image b.
        logit_scale: scalar, natural logarithm of the inverse temperature; the caller clamps it.
        text_id: (B,) int64, equal for equal captions (``text_ids``).
        directions: "sum" of image-to-text and text-to-image (the paper), or their "mean" (its
            public code).
        equal_texts: "negatives": the target is the pair itself (InfoNCE). "positives": the target
            is spread evenly over all pairs with an equal caption, in both directions.
        valid: (B,) bool, False for rows that are not pairs: neither query nor target, as if the
            batch did not hold them. Ranks may have different numbers of valid rows, even none.
            None: all are valid. No value of it is read on the host, which would wait for the
            device: without a valid row on any rank the terms are NaN.
        chunk: images of this rank that are compared with all texts at a time, which changes memory
            and no value. None: as many as make ``matrix.BLOCK`` similarities.
        measure: False leaves out accuracy and duplicates, which only steps that are logged read.

    Raises:
        ValueError: shapes that do not match, or batch sizes that differ between ranks.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; van den Oord et al. 2018
    (arXiv:1807.03748); kahnchana/clippy at 04bf78b.
    """
    with without_autocast(image.device.type):
        image, text, log_scale = widen(image, text, logit_scale)
        texts, matrix = compare(
            image,
            text,
            text_id=text_id,
            valid=valid,
            equal_texts=equal_texts,
            chunk=chunk,
            measure=measure,
        )
        small = world_size() == 1 and chunk is None and len(image) * len(texts) <= SMALL
        value, correct = (cross_entropy if small else blockwise.cross_entropy)(
            image, texts, log_scale, matrix
        )
    share = 0.5 if directions == "mean" else 1.0
    return matrix.terms(share * matrix.weight * value, correct)


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    logit_bias: Tensor,
    directions: Literal["sum"] = "sum",
    **pairs: Any,
) -> ContrastiveTerms:
    """Compute the logistic loss over all images and captions of all ranks (pair or not), divided by
    the number of pairs.

    Args:
        logit_bias: scalar, added to the scaled similarities.
        directions: "sum": a pair is compared once, and there is nothing to average.
        image, text: (B, E), L2-normalised; row b of both is a pair.
        logit_scale: scalar, natural logarithm of the factor on similarities.
        pairs: text_id, equal_texts, valid, chunk and measure of ``compare``.  Under "negatives" an
            image's only positive is its own caption; under "positives" every equal caption is one.

    Raises:
        ValueError: shapes that do not match, or batch sizes that differ between ranks.

    Source: Zhai et al. 2023 (arXiv:2303.15343), section 3.2 and algorithm 1.
    """
    with without_autocast(image.device.type):
        image, text, log_scale, bias = widen(image, text, logit_scale, logit_bias)
        texts, matrix = compare(image, text, **pairs)
        value, correct = blockwise.sigmoid(image, texts, log_scale, bias, matrix)
    return matrix.terms(matrix.weight * value, correct)


def text_ids(texts: list[str]) -> Tensor:
    """Hash each caption to 64 bits, equal on every rank and machine.  Returns (B,) int64.

    Any two different captions of a batch collide with probability about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64
    )
