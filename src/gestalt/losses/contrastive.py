"""The losses of image-text pairs over all ranks, with the exact gradient: contrastive and SigLIP's,
by the formula or a block of rows at a time, where the gradient is computed with the value and no
block is kept.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gestalt.losses.matrix import ContrastiveTerms, PairMatrix, compare, mask_invalid, widen
from gestalt.support.devices import without_autocast
from gestalt.support.ranks import logsumexp_over_ranks, world_size

SMALL = 2**18
"""Most similarities for which the formula is computed as it stands, on one rank; from there on
blocks are faster.
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


BlockLoss = tuple[Tensor, Tensor, Tensor | None]
"""A block's loss, its gradient with respect to the logits (R, G), and its correct rows (R,)."""


class WithGradient(torch.autograd.Function):
    """A value whose gradient with respect to the inputs is known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients."""
        return None, None, *[grad_value * gradient for gradient in ctx.saved_tensors]


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
        return value, grad_logits, correct

    return _sum_of_blocks(loss_of, matrix, image, texts, log_scale)


def _sum_of_blocks(
    loss_of: Callable[[Tensor, PairMatrix], BlockLoss],
    matrix: PairMatrix,
    image: Tensor,
    texts: Tensor,
    log_scale: Tensor,
    *bias: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """Sum the blocks' losses, with the gradient.

    Args:
        loss_of: computes a block, from its images times the scale, (R, E).
        matrix: what is compared.
        image: (B, E).
        texts: (G, E).
        log_scale: scalar.
        bias: a number added to all logits, if there is one.

    Returns:
        The sum, and (B,) bool, the correct rows; None if not measured.
    """
    correct: list[Tensor] = []
    with torch.no_grad():
        value, grad_log_scale, grad_bias = texts.new_zeros(3).unbind()
        queries = image * log_scale.exp()
        grad_queries = torch.empty_like(queries)
        grad_texts = torch.zeros_like(texts)
        for rows, block in matrix.blocks():
            value_of_block, grad_logits, correct_rows = loss_of(queries[rows], block)
            compared = block.compared()
            if compared is not None:
                grad_logits.masked_fill_(~compared, 0)
            correct += [] if correct_rows is None else [correct_rows]
            torch.mm(grad_logits, texts, out=grad_queries[rows])
            grad_texts.addmm_(grad_logits.T, queries[rows])
            value = value + value_of_block
            grad_bias = grad_bias + grad_logits.sum()
            grad_log_scale = grad_log_scale + (grad_queries[rows] * queries[rows]).sum()
        grad_image = grad_queries.mul_(log_scale.exp())
    inputs = (image, texts, log_scale, *bias)
    gradients = (grad_image, grad_texts, grad_log_scale, grad_bias)[: len(inputs)]
    value = WithGradient.apply(value, gradients, *inputs)  # type: ignore[no-untyped-call]
    return value, torch.cat(correct) if correct else None


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
        value, correct = (cross_entropy if small else cross_entropy_by_block)(
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
    equal_texts: Literal["negatives", "positives"] = "negatives",
    chunk: int | None = None,
    **pairs: Any,
) -> ContrastiveTerms:
    """Compute the logistic loss over all images and captions of all ranks (pair or not), divided by
    the number of pairs.

    Args:
        logit_bias: scalar, added to the scaled similarities.
        directions: "sum": a pair is compared once, and there is nothing to average.
        equal_texts: under "negatives" an image's only positive is its own caption; under
            "positives" every equal caption is one.
        chunk: see ``contrastive_loss``.
        image, text: (B, E), L2-normalised; row b of both is a pair.
        logit_scale: scalar, natural logarithm of the factor on similarities.
        pairs: text_id, valid and measure of ``compare``.

    Raises:
        ValueError: shapes that do not match, or batch sizes that differ between ranks.

    Source: Zhai et al. 2023 (arXiv:2303.15343), section 3.2 and algorithm 1.
    """
    with without_autocast(image.device.type):
        image, text, log_scale, bias = widen(image, text, logit_scale, logit_bias)
        texts, matrix = compare(image, text, equal_texts=equal_texts, chunk=chunk, **pairs)

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
            return losses.sum(), grad_logits, correct

        value, correct = _sum_of_blocks(loss_of, matrix, image, texts, log_scale, bias)
    return matrix.terms(matrix.weight * value, correct)


def text_ids(texts: list[str]) -> Tensor:
    """Hash each caption to 64 bits, equal on every rank and machine.  Returns (B,) int64.

    Any two different captions of a batch collide with probability about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64
    )
