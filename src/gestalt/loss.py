"""Losses of image-text pairs over all ranks, with the exact gradient.  B pairs on this rank, G pairs on all ranks, E shared width."""

import hashlib
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, distributed

from gestalt.gather import GatherRows, check_rows, gather_rows, world_size
from gestalt.pair_matrix import Matrix, cross_entropy, sigmoid
from gestalt.support.devices import without_autocast

Directions = Literal["sum", "mean"]
EqualTexts = Literal["negatives", "positives"]

DIRECTIONS: dict[str, float] = {"sum": 1.0, "mean": 0.5}  # weight of each direction: the paper sums the two, its public code averages them
EQUAL_TEXTS = ("negatives", "positives")


class ContrastiveTerms(NamedTuple):
    """This rank's share of the loss, and of two measurements.

    The mean over ranks is the value of the global batch, for any number of valid pairs on each rank.

    Attributes:
        loss: scalar.
        accuracy: scalar, share of images whose most similar caption in the global batch is theirs or equal to it; None if not measured.
        duplicates: scalar, share of captions that occur more than once in the global batch (false negatives); None if not measured.
    """

    loss: Tensor
    accuracy: Tensor | None
    duplicates: Tensor | None


class ContrastiveLoss(Protocol):
    """``contrastive_loss`` with its options bound; ``logit_bias`` is given where the model has one."""

    def __call__(
        self, image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, valid: Tensor | None, **logit_bias: Tensor
    ) -> ContrastiveTerms:
        """Return this rank's share of the loss over the valid rows; all are valid if ``valid`` is None."""
        ...


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    text_id: Tensor,
    directions: Directions,
    equal_texts: EqualTexts,
    valid: Tensor | None = None,
    chunk: int | None = None,
    measured: bool = True,
) -> ContrastiveTerms:
    """Compute the cross-entropy of images against the captions of all ranks, and of captions against the images.

    The mean over ranks of ``loss`` is the loss of the global batch; so is every gradient under DDP, which averages over ranks.
    Similarities are computed in float32 or wider, also under autocast.

    Args:
        image: (B, E), L2-normalised. B is the same on every rank.
        text: (B, E), L2-normalised; row b belongs to image b.
        logit_scale: scalar, natural logarithm of the inverse temperature; the caller clamps it.
        text_id: (B,) int64, equal for equal captions (``text_ids``).
        directions: "sum" of image-to-text and text-to-image (the paper), or their "mean" (its public code).
        equal_texts: "negatives": the target is the pair itself (InfoNCE). "positives": the target is spread evenly over all pairs with an
            equal caption, in both directions.
        valid: (B,) bool, False for rows that are not pairs: neither query nor target, as if the batch did not hold them. Ranks may have
            different numbers of valid rows, even none. None: all are valid. No value of it is read on the host, which would wait for the
            device: without a valid row on any rank the terms are NaN.
        chunk: images of this rank that are compared with all texts at a time, which changes memory and no value. None: as many as make
            ``pair_matrix.BLOCK`` similarities.
        measured: False leaves out accuracy and duplicates, which only steps that are logged read.

    Raises:
        ValueError: an unknown choice, shapes that do not match, or batch sizes that differ between ranks.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; van den Oord et al. 2018 (arXiv:1807.03748); kahnchana/clippy at 04bf78b.
    """
    _check(image, text, text_id=text_id, valid=valid, directions=directions, equal_texts=equal_texts)
    with without_autocast(image.device.type):
        image, text, log_scale = _wide(image, text, logit_scale)
        pairs = _all_ranks(image, text, text_id=text_id, valid=valid, spread=equal_texts == "positives", chunk=chunk, measured=measured)
        value, right = cross_entropy(pairs.images, pairs.texts, log_scale, matrix=pairs.matrix, gather=pairs.gather)
    return _terms(pairs, DIRECTIONS[directions] * pairs.weight * value, right)


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    logit_bias: Tensor,
    text_id: Tensor,
    directions: Directions,
    equal_texts: EqualTexts,
    valid: Tensor | None = None,
    chunk: int | None = None,
    measured: bool = True,
) -> ContrastiveTerms:
    """Compute SigLIP's loss: the logistic loss over all images and captions of all ranks (pair or not), divided by the number of pairs.

    Args:
        logit_bias: scalar, added to the scaled similarities.
        directions: "sum": a pair is compared once, and there is nothing to average.
        equal_texts: "negatives": an image's only positive is its own caption. "positives": every equal caption is one.
        image, text, logit_scale, text_id, valid, chunk, measured: as ``contrastive_loss``.

    Raises:
        ValueError: as ``contrastive_loss``, and for another choice of ``directions``.

    Source: Zhai et al. 2023 (arXiv:2303.15343), section 3.2 and algorithm 1.
    """
    _check(image, text, text_id=text_id, valid=valid, directions=directions, equal_texts=equal_texts)
    if directions != "sum":
        raise ValueError(f"loss.directions={directions}: loss.name=sigmoid compares a pair once, in no direction; choose sum")
    with without_autocast(image.device.type):
        image, text, log_scale, bias = _wide(image, text, logit_scale, logit_bias)
        pairs = _all_ranks(image, text, text_id=text_id, valid=valid, spread=equal_texts == "positives", chunk=chunk, measured=measured)
        value, right = sigmoid(pairs.images, pairs.texts, log_scale, bias, matrix=pairs.matrix)
    return _terms(pairs, pairs.weight * value, right)


def text_ids(texts: list[str]) -> Tensor:
    """Hash each caption to 64 bits, equal on every rank and machine.  Returns (B,) int64.

    Any two different captions of a batch collide with probability about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def _check(image: Tensor, text: Tensor, *, text_id: Tensor, valid: Tensor | None, directions: str, equal_texts: str) -> None:
    """Check the choices, and that the shapes are those of a batch of pairs."""
    if directions not in DIRECTIONS:
        raise ValueError(f"loss.directions {directions!r} is unknown: choose one of {', '.join(DIRECTIONS)}")
    if equal_texts not in EQUAL_TEXTS:
        raise ValueError(f"loss.equal_texts {equal_texts!r} is unknown: choose one of {', '.join(EQUAL_TEXTS)}")
    rows = {text_id.shape} if valid is None else {text_id.shape, valid.shape}
    if image.ndim != 2 or len(image) == 0 or image.shape != text.shape or rows != {image.shape[:1]}:
        mask = "None" if valid is None else tuple(valid.shape)
        shapes = f"image {tuple(image.shape)}, text {tuple(text.shape)}, text_id {tuple(text_id.shape)}, valid {mask}"
        raise ValueError(f"loss: expected image (B, E), text (B, E), text_id (B,) and valid (B,) with B at least 1, got {shapes}")


def _wide(image: Tensor, *others: Tensor) -> list[Tensor]:
    """Return the embeddings and scalars in the width of the images, float32 at least."""
    wide = torch.promote_types(image.dtype, torch.float32)
    return [tensor if tensor.dtype == wide else tensor.to(wide) for tensor in (image, *others)]


class _Pairs(NamedTuple):
    """This rank's images (B, E) and the texts of all ranks (G, E), in rank order.

    Attributes:
        images: (B, E).
        texts: (G, E).
        matrix: what is compared.
        weight: makes the mean over ranks of a sum over valid rows the mean over those of the global batch.
        gather: exchange between ranks without a gradient; None for one rank.
    """

    images: Tensor
    texts: Tensor
    matrix: Matrix
    weight: float | Tensor
    gather: Callable[[Tensor], Tensor] | None


def _terms(pairs: _Pairs, loss: Tensor, right: Tensor | None) -> ContrastiveTerms:
    """Return the terms, from this rank's share of the loss and its right rows, (B,) bool; None if not measured."""
    if right is None or pairs.matrix.counts is None:
        return ContrastiveTerms(loss, accuracy=None, duplicates=None)
    repeated, rows = pairs.matrix.counts > 1, pairs.matrix.valid_rows()
    repeated = repeated if rows is None else repeated & rows
    accuracy, duplicates = (rows.sum().to(loss.dtype) * pairs.weight for rows in (right, repeated))
    return ContrastiveTerms(loss, accuracy, duplicates)


def _all_ranks(
    image: Tensor, text: Tensor, *, text_id: Tensor, valid: Tensor | None, spread: bool, chunk: int | None, measured: bool
) -> _Pairs:
    """Gather the texts of all ranks."""
    world, first, all_texts, all_ids = world_size(), 0, text, text_id
    if world > 1:
        first = distributed.get_rank() * len(image)
        check_rows(len(image), device=image.device)
        gather: Callable[[Tensor], Tensor] = GatherRows.apply
        all_texts = gather(text)
        valid = torch.ones_like(text_id, dtype=torch.bool) if valid is None else valid
        all_ids, all_valid = gather_rows(torch.stack((text_id, valid.to(text_id.dtype)), dim=1)).unbind(dim=1)
        all_ids, valid = all_ids.contiguous(), all_valid.bool()
    counts = _count(text_id, all_ids, valid=valid) if spread or measured else None
    matrix = Matrix(first, text_id, all_ids=all_ids, counts=counts, spread=spread, rows=chunk, valid=valid, measured=measured)
    weight = world / len(all_ids) if valid is None else world / valid.sum().to(image.dtype)
    return _Pairs(image, all_texts, matrix, weight, gather=gather_rows if world > 1 else None)


def _count(ids: Tensor, all_ids: Tensor, *, valid: Tensor | None) -> Tensor:
    """Count, for each id, its occurrences among all valid ones.  (B,) int64."""
    ordered, order = all_ids.sort()
    first, last = torch.searchsorted(ordered, ids), torch.searchsorted(ordered, ids, right=True)
    if valid is None:
        return last - first
    before = torch.cat((order.new_zeros(1), valid[order].cumsum(0)))
    return before[last] - before[first]
