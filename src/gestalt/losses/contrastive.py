"""The contrastive loss of image-text pairs over all ranks, with the exact gradient: by the formula,
or for large batches a block of rows at a time.

B pairs on this rank, G pairs on all ranks, E shared width.
"""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from gestalt.losses.blocks import BlockLoss, sum_of_blocks
from gestalt.losses.matrix import ContrastiveTerms, PairMatrix, compare, widen
from gestalt.support.devices import without_autocast
from gestalt.support.moved import forward_names
from gestalt.support.ranks import logsumexp_over_ranks, world_size

if not TYPE_CHECKING:  # a type checker would take any name
    __getattr__ = forward_names(__name__)

SMALL = 2**18
"""Most similarities for which the formula is computed as it stands, on one rank; from there on
blocks are faster.
"""


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
        if world_size() == 1 and chunk is None and len(image) * len(texts) <= SMALL:
            value, correct = cross_entropy(image, texts, log_scale, matrix)
        else:
            value, correct = cross_entropy_by_block(image, texts, log_scale, matrix)
    share = 0.5 if directions == "mean" else 1.0
    return matrix.terms(share * matrix.weight * value, correct)


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


def cross_entropy_by_block(
    image: Tensor, texts: Tensor, log_scale: Tensor, matrix: PairMatrix
) -> tuple[Tensor, Tensor | None]:
    """Sum the cross-entropies of this rank's images over all texts, and of this rank's texts over
    all images.

    The softmax over a column needs the rows of other ranks: they exchange the logarithms of their
    columns' sums, G numbers.  The gradient is that of the sum over all ranks with respect to this
    rank's images, and this rank's part of that with respect to all texts.

    Args:
        image: (B, E), of this rank.
        texts: (G, E), of all ranks.
        log_scale: scalar.
        matrix: what is compared.

    Returns:
        The sum, and (B,) bool, True for rows whose nearest text has their caption; None if not
        measured.
    """
    blocks = list(matrix.blocks())
    with torch.no_grad():
        queries = image * log_scale.exp()
        whole = matrix.masked(queries @ texts.T) if len(blocks) == 1 else None

        def logits_of(part: Tensor, block: PairMatrix) -> Tensor:
            return block.masked(part @ texts.T) if whole is None else whole

        # logarithm of each column's sum of exponentials, of a rank without rows
        normaliser = texts.new_full((len(texts),), -torch.inf)
        for rows, block in blocks:
            logits = logits_of(queries[rows], block)
            normaliser = torch.logaddexp(normaliser, logits.logsumexp(dim=0))
        normaliser = logsumexp_over_ranks(normaliser)

    def loss_of(part: Tensor, block: PairMatrix) -> BlockLoss:
        logits = logits_of(part, block)
        correct = block.correct(logits)
        log_p_text = logits.log_softmax(dim=1)
        log_p_image = logits.sub_(normaliser)  # the logits are overwritten
        if block.spread:
            targets = block.targets(logits.dtype)
            value = -((log_p_text + log_p_image) * targets).sum()
            grad_logits = log_p_text.exp_().add_(log_p_image.exp_()).sub_(targets, alpha=2)
        else:
            value = -(block.sum_of_positives(log_p_text) + block.sum_of_positives(log_p_image))
            grad_logits = log_p_text.exp_().add_(log_p_image.exp_())
            block.positives(grad_logits).sub_(2)
        return BlockLoss(value, grad_logits, correct)

    return sum_of_blocks(loss_of, matrix, image, texts, log_scale)
