"""Losses of image-text pairs, computed for a block of rows at a time: the gradient is computed with
the value, and no block is kept.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gestalt.losses.matrix import PairMatrix


class BlockLoss(NamedTuple):
    """The loss of a block.

    Attributes:
        value: scalar.
        grad_logits: (R, G), its gradient with respect to the logits.
        correct: (R,) bool, rows whose nearest text has their caption; None if not measured.
    """

    value: Tensor
    grad_logits: Tensor
    correct: Tensor | None


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


def sum_of_blocks(
    loss_of: Callable[[Tensor, PairMatrix], BlockLoss],
    matrix: PairMatrix,
    image: Tensor,
    texts: Tensor,
    log_scale: Tensor,
    *,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Sum the blocks' losses, with the gradient.

    Args:
        loss_of: computes a block, from its images times the scale, (R, E).
        matrix: what is compared.
        image: (B, E).
        texts: (G, E).
        log_scale: scalar.
        bias: scalar added to all logits; None if there is none.

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
            part = loss_of(queries[rows], block)
            grad_logits, compared = part.grad_logits, block.compared()
            if compared is not None:
                grad_logits.masked_fill_(~compared, 0)
            if part.correct is not None:
                correct.append(part.correct)
            torch.mm(grad_logits, texts, out=grad_queries[rows])
            grad_texts.addmm_(grad_logits.T, queries[rows])
            value = value + part.value
            grad_bias = grad_bias + grad_logits.sum()
            grad_log_scale = grad_log_scale + (grad_queries[rows] * queries[rows]).sum()
        grad_image = grad_queries.mul_(log_scale.exp())
    inputs: tuple[Tensor, ...] = (image, texts, log_scale)
    gradients: tuple[Tensor, ...] = (grad_image, grad_texts, grad_log_scale)
    if bias is not None:
        inputs, gradients = (*inputs, bias), (*gradients, grad_bias)
    value = WithGradient.apply(value, gradients, *inputs)  # type: ignore[no-untyped-call]
    return value, torch.cat(correct) if correct else None
