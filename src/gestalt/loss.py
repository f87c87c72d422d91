"""Symmetric contrastive loss over all ranks, with the exact gradient.  B pairs on this rank, G pairs on all ranks, E shared width."""

import hashlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from gestalt.support.plugins import Registry

Directions = Literal["sum", "mean"]
EqualTexts = Literal["negatives", "positives"]

DIRECTIONS: dict[str, float] = {"sum": 1.0, "mean": 0.5}  # weight of each direction: the paper sums the two, its public code averages them
EQUAL_TEXTS = ("negatives", "positives")
IGNORED = -100  # target of a row that is no query


class ContrastiveTerms(NamedTuple):
    """This rank's share of the loss, and of two measurements.

    The mean over ranks is the value of the global batch, for any number of valid pairs on each rank.

    Attributes:
        loss: scalar.
        accuracy: scalar, share of images whose most similar caption in the global batch is theirs or equal to it.
        duplicates: scalar, share of captions that occur more than once in the global batch (false negatives).
    """

    loss: Tensor
    accuracy: Tensor
    duplicates: Tensor


class GatherRows(torch.autograd.Function):
    """Differentiable all-gather: rows of all ranks, in rank order; a row's gradient is summed over ranks.

    ``torch.distributed.all_gather`` cuts the graph, so that a rank's rows would get no gradient from the other ranks' losses. torch's own
    differentiable gathers are deprecated or renamed between the supported versions; an all-reduce exists on every backend.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Gather rows.  (B, ...) on each rank to (G, ...) on every rank."""
        return _gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum gradients over ranks.  (G, ...) on each rank to this rank's (B, ...)."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may share the tensor
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: Tensor,
    text_id: Tensor,
    directions: Directions,
    equal_texts: EqualTexts,
    valid: Tensor | None = None,
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
            different numbers of valid rows, also none. None: all are valid. No value of it is read on the host, which would wait for the
            device: without a valid row on any rank the terms are NaN.

    Raises:
        ValueError: an unknown choice, shapes that do not match, or batch sizes that differ between ranks.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; van den Oord et al. 2018 (arXiv:1807.03748); kahnchana/clippy at 04bf78b.
    """
    _check(image, text, text_id=text_id, valid=valid, directions=directions, equal_texts=equal_texts)
    with torch.autocast(image.device.type, enabled=False):
        wide = torch.promote_types(image.dtype, torch.float32)
        image, text, scale = image.to(wide), text.to(wide), logit_scale.to(wide).exp()
        return _terms(image, text, scale=scale, text_id=text_id, valid=valid, directions=directions, equal_texts=equal_texts)


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
    mask = text_id.shape if valid is None else valid.shape
    if image.ndim != 2 or len(image) == 0 or image.shape != text.shape or {text_id.shape, mask} != {image.shape[:1]}:
        shapes = f"image {tuple(image.shape)}, text {tuple(text.shape)}, text_id {tuple(text_id.shape)}, valid {tuple(mask)}"
        raise ValueError(
            f"contrastive_loss: expected image (B, E), text (B, E), text_id (B,) and valid (B,) with B at least 1, got {shapes}"
        )


def _terms(
    image: Tensor, text: Tensor, *, scale: Tensor, text_id: Tensor, valid: Tensor | None, directions: Directions, equal_texts: EqualTexts
) -> ContrastiveTerms:
    """Compute the terms from embeddings in float32 or wider, and the scale of cosines."""
    candidates, targets, weight = _all_ranks(image, text, text_id=text_id, valid=valid)
    same = text_id.unsqueeze(1) == candidates.ids.unsqueeze(0)  # (B, G), True at least at the pair itself
    image_logits = scale * image @ candidates.texts.T  # (B, G)
    text_logits = scale * text @ candidates.images.T
    if candidates.valid is not None:  # masks instead of indices: the shapes of a selection are known to the device alone
        mine = candidates.valid[targets]
        same = same & candidates.valid & mine.unsqueeze(1)
        lowest = torch.finfo(image.dtype).min  # finite, since 0 times infinity is NaN
        image_logits, text_logits = (logits.masked_fill(~candidates.valid, lowest) for logits in (image_logits, text_logits))
        targets = targets.masked_fill(~mine, IGNORED)
    spread = equal_texts == "positives"
    target = same.to(image.dtype) / same.sum(dim=1, keepdim=True).clamp(min=1) if spread else targets  # (B, G) or (B,)
    both = functional.cross_entropy(image_logits, target, reduction="sum", ignore_index=IGNORED)
    both = both + functional.cross_entropy(text_logits, target, reduction="sum", ignore_index=IGNORED)
    nearest = image_logits.detach().argmax(dim=1, keepdim=True)  # (B, 1)
    return ContrastiveTerms(
        loss=DIRECTIONS[directions] * weight * both,
        accuracy=weight * same.gather(1, nearest).to(image.dtype).sum(),
        duplicates=weight * (same.sum(dim=1) > 1).to(image.dtype).sum(),
    )


class _Candidates(NamedTuple):
    """Rows of all ranks, in rank order: images (G, E), texts (G, E), text ids (G,), and which are valid, (G,) bool, None for all."""

    images: Tensor
    texts: Tensor
    ids: Tensor
    valid: Tensor | None


def _all_ranks(image: Tensor, text: Tensor, *, text_id: Tensor, valid: Tensor | None) -> tuple[_Candidates, Tensor, float | Tensor]:
    """Gather the candidates; return them, this rank's indices among them (B,), and the weight that makes sums over rows a global mean."""
    world, rank, rows = 1, 0, len(image)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        world, rank = distributed.get_world_size(), distributed.get_rank()
        _check_sizes(_gather(torch.full((1,), rows, device=image.device)), rows)
        gather: Callable[[Tensor], Tensor] = GatherRows.apply
        image, text = gather(torch.cat((image, text), dim=1)).chunk(2, dim=1)  # one collective for both
        mask = torch.ones_like(text_id) if valid is None else valid.to(text_id.dtype)
        text_id, all_valid = _gather(torch.stack((text_id, mask), dim=1)).unbind(dim=1)
        valid = all_valid.bool()
    targets = torch.arange(rank * rows, (rank + 1) * rows, device=image.device)
    weight = world / len(image) if valid is None else world / valid.sum().to(image.dtype)
    return _Candidates(image, text, text_id, valid), targets, weight


def _check_sizes(sizes: Tensor, mine: int) -> None:
    """Check that every rank holds as many rows.  An accelerator checks by itself, and stops the run: reading them would wait for it.

    Raises:
        ValueError: other ranks hold other numbers of rows (CPU).
    """
    if sizes.device.type != "cpu":
        torch._assert_async((sizes == mine).all(), "contrastive_loss: the ranks hold different numbers of rows")
    elif len(set(sizes.tolist())) > 1:
        raise ValueError(
            f"contrastive_loss: the ranks hold {sizes.tolist()} rows, in rank order; every rank must hold the same number. "
            "Drop the last, incomplete batch; mark rows that are not pairs as not valid instead of removing them"
        )


def _gather(rows: Tensor) -> Tensor:
    """Gather rows of all ranks, in rank order, without a gradient.  Every rank must hold the same number."""
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


LOSSES = Registry("losses", {"contrastive": contrastive_loss})
"""Loss functions by name, called as ``contrastive_loss`` is; installed packages may add some."""
