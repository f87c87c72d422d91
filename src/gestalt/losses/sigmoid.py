"""SigLIP's loss of image-text pairs over all ranks, with the exact gradient.  B pairs on this rank,
E shared width.
"""

from typing import Literal

from torch import Tensor

from gestalt.losses import blockwise
from gestalt.losses.matrix import ContrastiveTerms, compare, widen
from gestalt.support.devices import without_autocast


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    logit_bias: Tensor,
    text_id: Tensor,
    equal_texts: Literal["negatives", "positives"],
    directions: Literal["sum"] = "sum",
    valid: Tensor | None = None,
    chunk: int | None = None,
    measured: bool = True,
) -> ContrastiveTerms:
    """Compute the logistic loss over all images and captions of all ranks (pair or not), divided by
    the number of pairs.

    Args:
        logit_bias: scalar, added to the scaled similarities.
        equal_texts: "negatives": an image's only positive is its own caption. "positives": every
            equal caption is one.
        directions: "sum": a pair is compared once, and there is nothing to average.
        image, text, logit_scale, text_id, valid, chunk, measured: as ``contrastive_loss``.

    Raises:
        ValueError: as ``contrastive_loss``.

    Source: Zhai et al. 2023 (arXiv:2303.15343), section 3.2 and algorithm 1.
    """
    with without_autocast(image.device.type):
        image, text, log_scale, bias = widen(image, text, logit_scale, logit_bias)
        texts, matrix = compare(
            image,
            text,
            text_id=text_id,
            valid=valid,
            equal_texts=equal_texts,
            chunk=chunk,
            measured=measured,
        )
        value, correct = blockwise.sigmoid(image, texts, log_scale, bias, matrix)
    return matrix.terms(matrix.weight * value, correct)
