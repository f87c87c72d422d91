"""Losses over the matrix of all pairs' similarities, a block of rows at a time, with their gradient.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.  The matrix has a row for each image of this rank and a
column for each text of all ranks.  Unless it is small, the gradient is computed with the value, and nothing of the matrix is kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK = 2**24
"""Similarities that are held at once unless ``loss.chunk`` is set: 64 MiB in float32."""

SMALL = 2**18
"""Most similarities for which autograd's operations are faster on one rank: for so few, calling them takes all the time."""


class Matrix(NamedTuple):
    """Rows, columns and answers, the positives of each row, of the matrix.

    Attributes:
        first: column of the first row's own text; that of row b is ``first + b``.
        ids: (B,) int64, id of each row's caption.
        all_ids: (G,) int64, id of each column's caption.
        counts: (B,) int64, columns that have the row's caption; None where neither ``spread`` nor ``measured`` needs them.
        spread: True if all of these are the row's answers, False if its own column alone is.
        rows: R; None for as many as make ``BLOCK`` similarities.
        valid: (G,) bool, False for pairs whose column and row count for nothing; None if all count. They are masked, not left out, since
            only the device knows how many remain.
        measured: True if the rows whose nearest text has their caption are asked for.
    """

    first: int
    ids: Tensor
    all_ids: Tensor
    counts: Tensor | None
    spread: bool
    rows: int | None
    valid: Tensor | None
    measured: bool = True

    def blocks(self) -> list[slice]:
        """Return the blocks of rows, in order."""
        rows = self.rows or max(1, BLOCK // len(self.all_ids))
        return [slice(start, start + rows) for start in range(0, len(self.ids), rows)]

    def block(self, rows: slice) -> "Matrix":
        """Return the matrix of these rows alone."""
        counts = None if self.counts is None else self.counts[rows]
        return self._replace(first=self.first + rows.start, ids=self.ids[rows], counts=counts)

    def valid_rows(self) -> Tensor | None:
        """Return (B,) bool, False for rows that count for nothing; None if all count."""
        return None if self.valid is None else self.valid[self.first : self.first + len(self.ids)]

    def compared(self) -> Tensor | None:
        """Return (B, G) bool, False where row or column counts for nothing; None if all count."""
        return None if self.valid is None else self.valid[self.first : self.first + len(self.ids)].unsqueeze(1) & self.valid

    def masked(self, logits: Tensor) -> Tensor:
        """Return logits, (B, G), so low where row or column counts for nothing that no softmax sees them; finite, also if two are added."""
        compared = self.compared()
        return logits if compared is None else logits.masked_fill(~compared, torch.finfo(logits.dtype).min / 4)

    def own(self, values: Tensor) -> Tensor:
        """Return the view (B,) of the values, (B, G), in the columns of the rows' own texts."""
        return values.diagonal(self.first)

    def same(self) -> Tensor:
        """Return (B, G) bool, True where a column has the row's caption and both count."""
        same, compared = self.ids.unsqueeze(1) == self.all_ids, self.compared()
        return same if compared is None else same & compared

    def answers(self, dtype: torch.dtype) -> Tensor:
        """Return (B, G): in each row, 1 spread evenly over the columns that have its caption."""
        assert self.counts is not None
        return self.same().to(dtype).div_(self.counts.clamp(min=1).unsqueeze(1))

    def right(self, logits: Tensor) -> Tensor | None:
        """Return (B,) bool, True where the row counts and its largest logit, of (B, G), has its caption; None if not asked."""
        if not self.measured:
            return None
        right, rows = self.all_ids[logits.argmax(dim=1)] == self.ids, self.valid_rows()
        return right if rows is None else right & rows

    def sum_of_own(self, values: Tensor) -> Tensor:
        """Sum the values, (B, G), in the columns of the rows' own texts, over the rows that count."""
        diagonal, rows = self.own(values), self.valid_rows()
        return (diagonal if rows is None else diagonal.masked_fill(~rows, 0)).sum()


class WithGradient(torch.autograd.Function):
    """A value whose gradient with respect to the inputs is known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        """Return the value."""
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients."""
        return None, None, *[slope * gradient for gradient in ctx.saved_tensors]


Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor of each rank along its first dimension, in rank order."""


def cross_entropy(
    image: Tensor, texts: Tensor, log_scale: Tensor, *, matrix: Matrix, gather: Gather | None
) -> tuple[Tensor, Tensor | None]:
    """Sum the cross-entropies of this rank's images over all texts, and of this rank's texts over all images.

    The softmax over a column needs the rows of other ranks: they exchange the logarithms of their columns' sums, G numbers.  The gradient
    is that of the sum over all ranks with respect to this rank's images, and this rank's part of that with respect to all texts.

    Args:
        image: (B, E), of this rank.
        texts: (G, E), of all ranks.
        log_scale: scalar.
        matrix: what is compared.
        gather: exchange between ranks; None for one.

    Returns:
        The sum, and (B,) bool, True for rows whose nearest text has their caption; None where the matrix is not measured.
    """
    if gather is None and matrix.rows is None and len(image) * len(texts) <= SMALL:
        return _small_cross_entropy(matrix.masked((image * log_scale.exp()) @ texts.T), matrix=matrix)
    with torch.no_grad():
        scale = log_scale.exp()
        queries = image * scale
        blocks = matrix.blocks()
        whole = matrix.masked(queries @ texts.T) if len(blocks) == 1 else None

        def logits_of(rows: slice) -> Tensor:
            return matrix.block(rows).masked(queries[rows] @ texts.T) if whole is None else whole

        normaliser = texts.new_full((len(texts),), -torch.inf)  # logarithm of each column's sum of exponentials, of a rank without rows
        for rows in blocks:
            normaliser = torch.logaddexp(normaliser, logits_of(rows).logsumexp(dim=0))
        if gather is not None:
            normaliser = gather(normaliser.unsqueeze(0)).logsumexp(dim=0)

        def of_block(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
            return _cross_entropy_of_block(logits_of(rows), normaliser, matrix=matrix.block(rows))

        total = _sum_of_blocks(of_block, queries, texts, blocks=blocks, scale=scale)
    return WithGradient.apply(total.value, total.gradients[:3], image, texts, log_scale), total.right  # type: ignore[no-untyped-call]


def _small_cross_entropy(logits: Tensor, *, matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    """Return the loss of all rows of the only rank, by autograd's operations, and the right rows."""
    right = matrix.right(logits.detach())
    of_row, of_column = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    both = of_row + of_column
    return -((both * matrix.answers(logits.dtype)).sum() if matrix.spread else matrix.sum_of_own(both)), right


def _cross_entropy_of_block(logits: Tensor, normaliser: Tensor, *, matrix: Matrix) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a block's loss, its gradient with respect to the logits (R, G), and its right rows (R,).  The logits are overwritten."""
    right = matrix.right(logits)
    of_row = logits.log_softmax(dim=1)
    of_column = logits.sub_(normaliser)
    if matrix.spread:
        answers = matrix.answers(logits.dtype)
        value = -((of_row + of_column) * answers).sum()
        slope = of_row.exp_().add_(of_column.exp_()).sub_(answers, alpha=2)
    else:
        value = -(matrix.sum_of_own(of_row) + matrix.sum_of_own(of_column))
        slope = of_row.exp_().add_(of_column.exp_())
        matrix.own(slope).sub_(2)
    compared = matrix.compared()
    return value, slope if compared is None else slope.masked_fill_(~compared, 0), right


def sigmoid(image: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor, *, matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    """Sum, over all pairs of an image of this rank and a text of any rank, the logistic loss of their being a pair.

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

        def of_block(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
            return _sigmoid_of_block(torch.addmm(bias, queries[rows], texts.T), matrix=matrix.block(rows))

        total = _sum_of_blocks(of_block, queries, texts, blocks=matrix.blocks(), scale=scale)
    return WithGradient.apply(total.value, total.gradients, image, texts, log_scale, bias), total.right  # type: ignore[no-untyped-call]


def _sigmoid_of_block(logits: Tensor, *, matrix: Matrix) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a block's loss, its gradient with respect to the logits (R, G), and its right rows (R,).  The logits are overwritten."""
    right = matrix.right(matrix.masked(logits))
    answers = matrix.same() if matrix.spread else torch.zeros_like(logits, dtype=torch.bool)
    matrix.own(answers).fill_(True)
    wrongness = torch.where(answers, -logits, logits)
    losses = -functional.logsigmoid(-wrongness)
    slope = torch.sigmoid(wrongness, out=logits)
    slope = torch.where(answers, -slope, slope)
    compared = matrix.compared()
    if compared is not None:
        losses, slope = losses.masked_fill_(~compared, 0), slope.masked_fill_(~compared, 0)
    return losses.sum(), slope, right


class _Total(NamedTuple):
    """Loss, its gradients and the right rows of all blocks.

    Attributes:
        value: scalar.
        gradients: of the value, with respect to images (B, E), texts (G, E), the logarithm of the scale, and a number added to all logits.
        right: (B,) bool; None where the matrix is not measured.
    """

    value: Tensor
    gradients: tuple[Tensor, Tensor, Tensor, Tensor]
    right: Tensor | None


def _sum_of_blocks(
    of_block: Callable[[slice], tuple[Tensor, Tensor, Tensor | None]], queries: Tensor, texts: Tensor, *, blocks: list[slice], scale: Tensor
) -> _Total:
    """Sum the blocks' losses and gradients.

    Args:
        of_block: computes a block's loss, its gradient with respect to the logits (R, G), and its right rows (R,).
        queries: (B, E), images times the scale.
        texts: (G, E).
        blocks: the blocks of rows.
        scale: scalar.
    """
    value, of_log_scale, of_bias = texts.new_zeros(3).unbind()
    right: list[Tensor] = []
    of_queries, of_texts = torch.empty_like(queries), torch.zeros_like(texts)
    for rows in blocks:
        of_this, slope, right_here = of_block(rows)
        right += [] if right_here is None else [right_here]
        torch.mm(slope, texts, out=of_queries[rows])
        of_texts.addmm_(slope.T, queries[rows])
        value, of_bias = value + of_this, of_bias + slope.sum()
        of_log_scale = of_log_scale + (of_queries[rows] * queries[rows]).sum()
    return _Total(value, (of_queries.mul_(scale), of_texts, of_log_scale, of_bias), torch.cat(right) if right else None)
