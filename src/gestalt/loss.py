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

DIRECTIONS: dict[str, float] = {"sum": 1.0, "mean": 0.5}  # weight of each direction: the paper adds the two, its public code averages them
EQUAL_TEXTS = ("negatives", "positives")


class ContrastiveTerms(NamedTuple):
    """This rank's part of the loss, and what is worth a look beside it.

    The mean of each over ranks is that of the global batch, whatever the number of valid pairs on each.

    Attributes:
        loss: scalar.
        accuracy: scalar, share of images whose most similar caption in the global batch is their own or reads the same.
        duplicates: scalar, share of captions that occur more than once in the global batch: false negatives.
    """

    loss: Tensor
    accuracy: Tensor
    duplicates: Tensor


class GatherRows(torch.autograd.Function):
    """Rows of all ranks, in rank order; a row's gradient is the sum of what all ranks send back to it.

    ``torch.distributed.all_gather`` cuts the graph: each rank would miss how its rows act in the losses of the others. The differentiable
    gathers that torch ships are deprecated or renamed between the versions that we support, and an all-reduce exists on every backend.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """(B, ...) on each rank to (G, ...) on every rank."""
        return _gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """(G, ...) on each rank to this rank's (B, ...), summed over ranks."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd may hand the same tensor to others
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
    """Each image picks its caption among all ranks' captions, each caption its image: the mean cross-entropy of either direction.

    The mean over ranks of ``loss`` is the loss of the global batch, and so is every gradient under DDP, which averages over ranks.
    Similarities are at least float32, whatever autocast says.

    Args:
        image: (B, E), L2-normalised. B is the same on every rank.
        text: (B, E), L2-normalised; row b belongs to image b.
        logit_scale: scalar, natural logarithm of the inverse temperature. Its bounds are the caller's affair.
        text_id: (B,) int64, equal where captions read the same (``text_ids``).
        directions: "sum" of image-to-text and text-to-image (the paper), or their "mean" (its public code).
        equal_texts: "negatives": only the pair itself is right (plain InfoNCE). "positives": the right answers are all pairs with that very
            caption, each with the same share, in both directions.
        valid: (B,) bool, the rows that are pairs; the others are neither asked nor answers, as if the batch had never held them. Ranks may
            have different numbers of valid rows, down to none. None: all.

    Raises:
        ValueError: an unknown choice, rows that do not match, batch sizes that differ between ranks, or no valid row on any of them.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; van den Oord et al. 2018 (arXiv:1807.03748); kahnchana/clippy at 04bf78b.
    """
    valid = torch.ones_like(text_id, dtype=torch.bool) if valid is None else valid
    _check(image, text, text_id=text_id, valid=valid, directions=directions, equal_texts=equal_texts)
    with torch.autocast(image.device.type, enabled=False):
        wide = torch.promote_types(image.dtype, torch.float32)
        scale = logit_scale.to(wide).exp()
        image, text = image.to(wide), text.to(wide)
        answers, own, weight = _all_ranks(image, text, text_id=text_id, valid=valid)
        same = text_id[valid].unsqueeze(1) == answers.ids.unsqueeze(0)  # (B, G), each row True at least at its own pair
        target = same.to(wide) / same.sum(dim=1, keepdim=True) if equal_texts == "positives" else own  # (B, G) shares, or (B,) places
        image_logits = scale * image[valid] @ answers.texts.T  # (B, G); from here on B and G count valid rows alone
        text_logits = scale * text[valid] @ answers.images.T
        both = functional.cross_entropy(image_logits, target, reduction="sum") + functional.cross_entropy(
            text_logits, target, reduction="sum"
        )
    picked = image_logits.detach().argmax(dim=1, keepdim=True)  # (B, 1)
    return ContrastiveTerms(
        loss=DIRECTIONS[directions] * weight * both,
        accuracy=weight * same.gather(1, picked).to(wide).sum(),
        duplicates=weight * (same.sum(dim=1) > 1).to(wide).sum(),
    )


def text_ids(texts: list[str]) -> Tensor:
    """A 64-bit hash of each caption: the same on every rank and machine.  Returns (B,) int64.

    Two different captions collide with a chance of about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def _check(image: Tensor, text: Tensor, *, text_id: Tensor, valid: Tensor, directions: str, equal_texts: str) -> None:
    """Refuse what cannot be a batch of pairs."""
    if directions not in DIRECTIONS:
        raise ValueError(f"loss.directions {directions!r} is unknown: choose one of {', '.join(DIRECTIONS)}")
    if equal_texts not in EQUAL_TEXTS:
        raise ValueError(f"loss.equal_texts {equal_texts!r} is unknown: choose one of {', '.join(EQUAL_TEXTS)}")
    if image.ndim != 2 or len(image) == 0 or image.shape != text.shape or {text_id.shape, valid.shape} != {image.shape[:1]}:
        found = f"image {tuple(image.shape)}, text {tuple(text.shape)}, text_id {tuple(text_id.shape)}, valid {tuple(valid.shape)}"
        raise ValueError(
            f"contrastive_loss: expected image (B, E), text (B, E), text_id (B,) and valid (B,) with B at least 1, found {found}"
        )


class _Answers(NamedTuple):
    """The valid rows of all ranks, in rank order: images (G, E), texts (G, E), text ids (G,)."""

    images: Tensor
    texts: Tensor
    ids: Tensor


def _all_ranks(image: Tensor, text: Tensor, *, text_id: Tensor, valid: Tensor) -> tuple[_Answers, Tensor, float]:
    """What is picked from, where in it this rank's valid rows are, and a row's weight: the mean over ranks of weighted sums is global."""
    world, rank = 1, 0
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        world, rank = distributed.get_world_size(), distributed.get_rank()
        sizes: list[int] = _gather(torch.tensor([len(image)], device=image.device)).tolist()
        if len(set(sizes)) > 1:
            raise ValueError(
                f"contrastive_loss: the ranks hold {sizes} rows, in rank order; every rank needs the same number. "
                "Drop the last, incomplete batch; rows that are no pairs keep their place and are not valid"
            )
        gather: Callable[[Tensor], Tensor] = GatherRows.apply
        image, text = gather(torch.cat((image, text), dim=1)).chunk(2, dim=1)  # one collective for both
        text_id, every = _gather(torch.stack((text_id, valid.to(text_id.dtype)), dim=1)).unbind(dim=1)
        valid = every.bool()
    count = int(valid.sum())
    if count == 0:
        raise ValueError("contrastive_loss: no row of the global batch is valid")
    own = valid.cumsum(0) - 1  # each row's place among the valid ones
    mine = slice(rank * len(valid) // world, (rank + 1) * len(valid) // world)
    return _Answers(image[valid], text[valid], text_id[valid]), own[mine][valid[mine]], world / count


def _gather(rows: Tensor) -> Tensor:
    """Rows of all ranks, in rank order, cut from the graph.  Every rank holds the same number."""
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


LOSSES = Registry("losses", {"contrastive": contrastive_loss})
"""Loss functions by name, called as ``contrastive_loss`` is; installed packages may add some."""
