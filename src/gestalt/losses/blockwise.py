"""Losses over the matrix of similarities, a block of rows at a time: the gradient is computed with
the value, and no block is kept.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gestalt.losses.gather import gather_rows, world_size
from gestalt.losses.matrix import PairMatrix


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
    image: Tensor, texts: Tensor, log_scale: Tensor, *, matrix: PairMatrix
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
    with torch.no_grad():
        scale = log_scale.exp()
        queries = image * scale
        blocks = matrix.blocks()
        whole = matrix.masked(queries @ texts.T) if len(blocks) == 1 else None

        def logits_of(rows: slice) -> Tensor:
            return matrix.block(rows).masked(queries[rows] @ texts.T) if whole is None else whole

        # logarithm of each column's sum of exponentials, of a rank without rows
        normaliser = texts.new_full((len(texts),), -torch.inf)
        for rows in blocks:
            normaliser = torch.logaddexp(normaliser, logits_of(rows).logsumexp(dim=0))
        if world_size() > 1:
            normaliser = gather_rows(normaliser.unsqueeze(0)).logsumexp(dim=0)

        def loss_of(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
            return _cross_entropy_of_block(logits_of(rows), normaliser, matrix=matrix.block(rows))

        total = _sum_of_blocks(loss_of, queries, texts, blocks=blocks, scale=scale)
    return WithGradient.apply(
        total.value, total.gradients[:3], image, texts, log_scale
    ), total.correct  # type: ignore[no-untyped-call]


def _cross_entropy_of_block(
    logits: Tensor, normaliser: Tensor, *, matrix: PairMatrix
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a block's loss, its gradient with respect to the logits (R, G), and its correct rows
    (R,).  The logits are overwritten.
    """
    correct = matrix.correct(logits)
    log_p_text = logits.log_softmax(dim=1)
    log_p_image = logits.sub_(normaliser)
    if matrix.spread:
        targets = matrix.targets(logits.dtype)
        value = -((log_p_text + log_p_image) * targets).sum()
        grad_logits = log_p_text.exp_().add_(log_p_image.exp_()).sub_(targets, alpha=2)
    else:
        value = -(matrix.sum_of_positives(log_p_text) + matrix.sum_of_positives(log_p_image))
        grad_logits = log_p_text.exp_().add_(log_p_image.exp_())
        matrix.positives(grad_logits).sub_(2)
    compared = matrix.compared()
    return (
        value,
        grad_logits if compared is None else grad_logits.masked_fill_(~compared, 0),
        correct,
    )


def sigmoid(
    image: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor, *, matrix: PairMatrix
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
        As ``cross_entropy``.
    """
    with torch.no_grad():
        scale = log_scale.exp()
        queries = image * scale

        def loss_of(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
            return _sigmoid_of_block(
                torch.addmm(bias, queries[rows], texts.T), matrix=matrix.block(rows)
            )

        total = _sum_of_blocks(loss_of, queries, texts, blocks=matrix.blocks(), scale=scale)
    return WithGradient.apply(
        total.value, total.gradients, image, texts, log_scale, bias
    ), total.correct  # type: ignore[no-untyped-call]


def _sigmoid_of_block(
    logits: Tensor, *, matrix: PairMatrix
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a block's loss, its gradient with respect to the logits (R, G), and its correct rows
    (R,).  The logits are overwritten.
    """
    correct = matrix.correct(matrix.masked(logits))
    is_pair = matrix.same_caption() if matrix.spread else torch.zeros_like(logits, dtype=torch.bool)
    matrix.positives(is_pair).fill_(True)
    signed_logits = torch.where(is_pair, -logits, logits)
    losses = -functional.logsigmoid(-signed_logits)
    grad_logits = torch.sigmoid(signed_logits, out=logits)
    grad_logits = torch.where(is_pair, -grad_logits, grad_logits)
    compared = matrix.compared()
    if compared is not None:
        losses, grad_logits = (
            losses.masked_fill_(~compared, 0),
            grad_logits.masked_fill_(~compared, 0),
        )
    return losses.sum(), grad_logits, correct


class _Total(NamedTuple):
    """Loss, its gradients and the correct rows of all blocks.

    Attributes:
        value: scalar.
        gradients: of the value, with respect to images (B, E), texts (G, E), the logarithm of the
            scale, and a number added to all logits.
        correct: (B,) bool; None if not measured.
    """

    value: Tensor
    gradients: tuple[Tensor, Tensor, Tensor, Tensor]
    correct: Tensor | None


def _sum_of_blocks(
    loss_of: Callable[[slice], tuple[Tensor, Tensor, Tensor | None]],
    queries: Tensor,
    texts: Tensor,
    *,
    blocks: list[slice],
    scale: Tensor,
) -> _Total:
    """Sum the blocks' losses and gradients.

    Args:
        loss_of: computes a block's loss, its gradient with respect to the logits (R, G), and its
            correct rows (R,).
        queries: (B, E), images times the scale.
        texts: (G, E).
        blocks: the blocks of rows.
        scale: scalar.
    """
    value, grad_log_scale, grad_bias = texts.new_zeros(3).unbind()
    correct: list[Tensor] = []
    grad_queries, grad_texts = torch.empty_like(queries), torch.zeros_like(texts)
    for rows in blocks:
        value_of_block, grad_logits, correct_rows = loss_of(rows)
        correct += [] if correct_rows is None else [correct_rows]
        torch.mm(grad_logits, texts, out=grad_queries[rows])
        grad_texts.addmm_(grad_logits.T, queries[rows])
        value, grad_bias = value + value_of_block, grad_bias + grad_logits.sum()
        grad_log_scale = grad_log_scale + (grad_queries[rows] * queries[rows]).sum()
    return _Total(
        value,
        (grad_queries.mul_(scale), grad_texts, grad_log_scale, grad_bias),
        torch.cat(correct) if correct else None,
    )
