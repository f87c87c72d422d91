"""SigLIP's loss of image-text pairs over all ranks, with the exact gradient.  B pairs on this rank,
E shared width.
"""

from typing import Any, Literal

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
