"""SigLIP's sigmoid loss of image-text pairs over all ranks, with the exact gradient.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.losses.blocks import BlockLoss, sum_of_blocks
from gestalt.losses.matrix import ContrastiveTerms, PairMatrix, compare, mask_invalid, widen
from gestalt.support.devices import without_autocast


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    logit_bias: Tensor,
    text_id: Tensor,
    directions: Literal["sum"] = "sum",
    equal_texts: Literal["negatives", "positives"] = "negatives",
    valid: Tensor | None = None,
    chunk: int | None = None,
    measure: bool = True,
) -> ContrastiveTerms:
    """Compute the logistic loss over all images and captions of all ranks (pair or not), divided by
    the number of pairs.

    Args:
        image, text: (B, E), L2-normalised; row b of both is a pair.
        logit_scale: scalar, natural logarithm of the factor on similarities.
        logit_bias: scalar, added to the scaled similarities.
        directions: "sum": a pair is compared once, and there is nothing to average.
        equal_texts: under "negatives" an image's only positive is its own caption; under
            "positives" every equal caption is one.
        text_id, valid, chunk, measure: see ``contrastive_loss``.

    Raises:
        ValueError: shapes that do not match, or batch sizes that differ between ranks.

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
            measure=measure,
        )

        def loss_of(part: Tensor, block: PairMatrix) -> BlockLoss:
            logits = torch.addmm(bias, part, texts.T)
            correct = block.correct(block.masked(logits))
            paired = (
                block.same_caption() if block.spread else torch.zeros_like(logits, dtype=torch.bool)
            )
            block.positives(paired).fill_(True)
            signed_logits = torch.where(paired, -logits, logits)
            losses = mask_invalid(-functional.logsigmoid(-signed_logits), block.compared())
            grad_logits = torch.sigmoid(signed_logits, out=logits)
            grad_logits = torch.where(paired, -grad_logits, grad_logits)
            return BlockLoss(losses.sum(), grad_logits, correct)

        value, correct = sum_of_blocks(loss_of, matrix, image, texts, log_scale, bias=bias)
    return matrix.terms(matrix.weight * value, correct)
