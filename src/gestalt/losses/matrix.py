"""The matrix of similarities: a row for each image of this rank, a column for each text of all
ranks.

B pairs on this rank, G pairs on all ranks, E shared width, R rows of a block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from gestalt.support.ranks import check_rows, gather_rows, gather_with_gradient, world_size

BLOCK = 2**24
"""Similarities that are held at once unless ``loss.chunk`` is set: 64 MiB in float32."""


class ContrastiveTerms(NamedTuple):
    """This rank's share of the loss, and of two measurements.

    The mean over ranks is the value of the global batch, for any number of valid pairs on each
    rank.

    Attributes:
        loss: scalar.
        accuracy: scalar, share of images whose most similar caption in the global batch is theirs
            or equal to it; None if not measured.
        duplicates: scalar, share of captions that occur more than once in the global batch (false
            negatives); None if not measured.
    """

    loss: Tensor
    accuracy: Tensor | None
    duplicates: Tensor | None


class PairMatrix(NamedTuple):
    """The matrix's rows and columns, and each row's positives (targets).

    Attributes:
        first: column of the first row's own text; that of row b is ``first + b``.
        ids: (B,) int64, id of each row's caption.
        all_ids: (G,) int64, id of each column's caption.
        counts: (B,) int64, columns that have the row's caption; None where neither ``spread`` nor
            ``measure`` needs them.
        spread: True if all of these are the row's positives, False if its own column alone is.
        rows: R; None for as many as make ``BLOCK`` similarities.
        valid: (G,) bool, False for pairs whose column and row count for nothing; None if all count.
            They are masked, not left out, since only the device knows how many remain.
        measure: True if the rows whose nearest text has their caption are needed.
        weight: makes the mean over ranks of a sum over valid rows the mean over those of the global
            batch.
    """

    first: int
    ids: Tensor
    all_ids: Tensor
    counts: Tensor | None
    spread: bool
    rows: int | None
    valid: Tensor | None
    measure: bool
    weight: float | Tensor

    def blocks(self) -> Iterator[tuple[slice, "PairMatrix"]]:
        """Yield blocks of rows, in order, each with the matrix of these rows alone."""
        step = self.rows or max(1, BLOCK // len(self.all_ids))
        for start in range(0, len(self.ids), step):
            rows = slice(start, start + step)
            counts = None if self.counts is None else self.counts[rows]
            yield rows, self._replace(first=self.first + start, ids=self.ids[rows], counts=counts)

    def valid_rows(self) -> Tensor | None:
        """Return (B,) bool, False for rows that count for nothing; None if all count."""
        return None if self.valid is None else self.valid[self.first : self.first + len(self.ids)]

    def compared(self) -> Tensor | None:
        """Return (B, G) bool, False where row or column counts for nothing; None if all count."""
        rows = self.valid_rows()
        return None if self.valid is None or rows is None else rows.unsqueeze(1) & self.valid

    def masked(self, logits: Tensor) -> Tensor:
        """Return logits, (B, G), so low where row or column counts for nothing that no softmax sees
        them; finite, also if two are added.
        """
        return mask_invalid(logits, self.compared(), fill=torch.finfo(logits.dtype).min / 4)

    def positives(self, values: Tensor) -> Tensor:
        """Return the view (B,) of the values, (B, G), in the columns of the rows' own texts."""
        return values.diagonal(self.first)

    def sum_of_positives(self, values: Tensor) -> Tensor:
        """Sum the values, (B, G), in the columns of the rows' own texts, over the rows that
        count.
        """
        return mask_invalid(self.positives(values), self.valid_rows()).sum()

    def same_caption(self) -> Tensor:
        """Return (B, G) bool, True where a column has the row's caption and both count."""
        return mask_invalid(self.ids.unsqueeze(1) == self.all_ids, self.compared())

    def targets(self, dtype: torch.dtype) -> Tensor:
        """Return (B, G): in each row, 1 spread evenly over the columns that have its caption."""
        assert self.counts is not None
        return self.same_caption().to(dtype).div_(self.counts.clamp(min=1).unsqueeze(1))

    def correct(self, logits: Tensor) -> Tensor | None:
        """Return (B,) bool, True where the row counts and its largest logit, of (B, G), has its
        caption; None if not measured.
        """
        if not self.measure:
            return None
        return mask_invalid(self.all_ids[logits.argmax(dim=1)] == self.ids, self.valid_rows())

    def terms(self, loss: Tensor, correct: Tensor | None) -> ContrastiveTerms:
        """Return the terms, from this rank's share of the loss and its correct rows, (B,) bool."""
        if correct is None or self.counts is None:
            return ContrastiveTerms(loss, accuracy=None, duplicates=None)
        repeated = mask_invalid(self.counts > 1, self.valid_rows())
        accuracy, duplicates = (
            rows.sum().to(loss.dtype) * self.weight for rows in (correct, repeated)
        )
        return ContrastiveTerms(loss, accuracy, duplicates)


def mask_invalid(values: Tensor, counted: Tensor | None, *, fill: float = 0) -> Tensor:
    """Return values with those that do not count filled; None if all count."""
    return values if counted is None else values.masked_fill(~counted, fill)


def compare(
    image: Tensor,
    text: Tensor,
    *,
    text_id: Tensor,
    equal_texts: str = "negatives",
    valid: Tensor | None = None,
    chunk: int | None = None,
    measure: bool = True,
) -> tuple[Tensor, PairMatrix]:
    """Return the texts of all ranks (G, E), in rank order and with the gradient, and the matrix in
    which images meet them.

    The arguments are those of ``contrastive_loss``.

    Raises:
        ValueError: shapes that do not match, or batch sizes that differ between ranks.
    """
    rows = {text_id.shape} if valid is None else {text_id.shape, valid.shape}
    if image.ndim != 2 or len(image) == 0 or image.shape != text.shape or rows != {image.shape[:1]}:
        raise ValueError(
            "loss: expected image (B, E), text (B, E), text_id (B,) and valid (B,) with B at "
            f"least 1, got image {tuple(image.shape)}, text {tuple(text.shape)}, text_id "
            f"{tuple(text_id.shape)}, valid {None if valid is None else tuple(valid.shape)}"
        )
    world = world_size()
    first = 0  # column of this rank's first text
    texts, ids = text, text_id
    if world > 1:
        first = distributed.get_rank() * len(image)
        check_rows(len(image), device=image.device)
        texts = gather_with_gradient(text)
        valid = torch.ones_like(text_id, dtype=torch.bool) if valid is None else valid
        rows_of_ranks = gather_rows(torch.stack((text_id, valid.to(text_id.dtype)), dim=1))
        ids, valid = rows_of_ranks.T.contiguous()
        valid = valid.bool()
    spread = equal_texts == "positives"
    counts = _count(text_id, ids, valid=valid) if spread or measure else None
    weight = world / len(ids) if valid is None else world / valid.sum().to(image.dtype)
    return texts, PairMatrix(
        first=first,
        ids=text_id,
        all_ids=ids,
        counts=counts,
        spread=spread,
        rows=chunk,
        valid=valid,
        measure=measure,
        weight=weight,
    )


def widen(image: Tensor, *others: Tensor) -> list[Tensor]:
    """Return the embeddings and scalars in the width of the images, float32 at least."""
    wide = torch.promote_types(image.dtype, torch.float32)
    return [tensor.to(wide) for tensor in (image, *others)]


def _count(ids: Tensor, all_ids: Tensor, *, valid: Tensor | None) -> Tensor:
    """Count, for each id, its occurrences among all valid ones.  (B,) int64."""
    ordered, order = all_ids.sort()
    first = torch.searchsorted(ordered, ids)
    last = torch.searchsorted(ordered, ids, right=True)
    if valid is None:
        return last - first
    before = torch.cat((order.new_zeros(1), valid[order].cumsum(0)))
    return before[last] - before[first]
