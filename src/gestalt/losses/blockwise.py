"""Losses over the matrix of similarities, a block of rows at a time: the gradient is computed with
the value, and no block is kept.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gestalt.losses.matrix import PairMatrix, mask_invalid
from gestalt.support.ranks import logsumexp_over_ranks

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


def cross_entropy(
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


def sigmoid(
    image: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor, matrix: PairMatrix
) -> tuple[Tensor, Tensor | None]:
    """Sum, over all pairs of an image of this rank and a text of any rank, the logistic loss of
    their being a pair.

    Args:
        image: (B, E), of this rank.
        texts: (G, E), of all ranks.
        log_scale: scalar.
        bias: scalar, added to scaled similarities.
        matrix: what is compared.

    Returns:
        The sum, and (B,) bool, True for rows whose nearest text has their caption; None if not
        measured.
    """

    def loss_of(part: Tensor, block: PairMatrix) -> BlockLoss:
        logits = torch.addmm(bias, part, texts.T)
        correct = block.correct(block.masked(logits))
        pairs = block.same_caption() if block.spread else torch.zeros_like(logits, dtype=torch.bool)
        block.positives(pairs).fill_(True)
        signed_logits = torch.where(pairs, -logits, logits)
        losses = mask_invalid(-functional.logsigmoid(-signed_logits), block.compared())
        grad_logits = torch.sigmoid(signed_logits, out=logits)
        grad_logits = torch.where(pairs, -grad_logits, grad_logits)
        return losses.sum(), grad_logits, correct

    return _sum_of_blocks(loss_of, matrix, image, texts, log_scale, bias)


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
