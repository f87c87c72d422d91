"""Symmetric contrastive loss over all ranks, with the exact gradient.  B pairs on this rank, G pairs on all ranks, E shared width."""

import hashlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

Directions = Literal["sum", "mean"]
EqualTexts = Literal["negatives", "positives"]

DIRECTIONS: dict[str, float] = {"sum": 1.0, "mean": 0.5}  # weight of each direction: the paper adds the two, its public code averages them
EQUAL_TEXTS = ("negatives", "positives")


class ContrastiveTerms(NamedTuple):
    """This rank's part of the loss, and what is worth a look beside it.

    Attributes:
        loss: scalar; its mean over ranks is the loss of the global batch.
        accuracy: scalar in [0, 1], share of images here whose most similar caption in the global batch is their own or reads the same.
        duplicates: scalar in [0, 1], share of captions here that occur more than once in the global batch: false negatives.
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
    image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, directions: Directions, equal_texts: EqualTexts
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

    Raises:
        ValueError: an unknown choice, rows that do not match, or batch sizes that differ between ranks.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; van den Oord et al. 2018 (arXiv:1807.03748); kahnchana/clippy at 04bf78b.
    """
    _check(image, text, text_id=text_id, directions=directions, equal_texts=equal_texts)
    with torch.autocast(image.device.type, enabled=False):
        wide = torch.promote_types(image.dtype, torch.float32)
        scale = logit_scale.to(wide).exp()
        image, text = image.to(wide), text.to(wide)
        all_images, all_texts, all_ids, first = _all_ranks(image, text, text_id=text_id)
        same = text_id.unsqueeze(1) == all_ids.unsqueeze(0)  # (B, G), each row True at least at its own pair
        own = first + torch.arange(len(image), device=image.device)  # (B,) each pair's place in the global batch
        target = same.to(wide) / same.sum(dim=1, keepdim=True) if equal_texts == "positives" else own  # (B, G) shares, or (B,) places
        image_logits = scale * image @ all_texts.T  # (B, G)
        text_logits = scale * text @ all_images.T
        both = functional.cross_entropy(image_logits, target) + functional.cross_entropy(text_logits, target)
    picked = image_logits.detach().argmax(dim=1, keepdim=True)  # (B, 1)
    return ContrastiveTerms(
        loss=DIRECTIONS[directions] * both,
        accuracy=same.gather(1, picked).to(wide).mean(),
        duplicates=(same.sum(dim=1) > 1).to(wide).mean(),
    )


def text_ids(texts: list[str]) -> Tensor:
    """A 64-bit hash of each caption: the same on every rank and machine.  Returns (B,) int64.

    Two different captions collide with a chance of about B ** 2 / 2 ** 65.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


def _check(image: Tensor, text: Tensor, *, text_id: Tensor, directions: str, equal_texts: str) -> None:
    """Refuse what cannot be a batch of pairs."""
    if directions not in DIRECTIONS:
        raise ValueError(f"loss.directions {directions!r} is unknown: choose one of {', '.join(DIRECTIONS)}")
    if equal_texts not in EQUAL_TEXTS:
        raise ValueError(f"loss.equal_texts {equal_texts!r} is unknown: choose one of {', '.join(EQUAL_TEXTS)}")
    if image.ndim != 2 or len(image) == 0 or image.shape != text.shape or text_id.shape != image.shape[:1]:
        found = f"image {tuple(image.shape)}, text {tuple(text.shape)}, text_id {tuple(text_id.shape)}"
        raise ValueError(f"contrastive_loss: expected image (B, E), text (B, E) and text_id (B,) with B at least 1, found {found}")


def _all_ranks(image: Tensor, text: Tensor, *, text_id: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Images (G, E), texts (G, E) and ids (G,) of all ranks, and where this rank's rows begin."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return image, text, text_id, 0
    sizes: list[int] = _gather(torch.tensor([len(image)], device=image.device)).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(
            f"contrastive_loss: the ranks hold {sizes} pairs, in rank order; every rank needs the same number, "
            "since the mean over ranks would weigh the pairs of a small batch more. Drop the last, incomplete batch"
        )
    gather: Callable[[Tensor], Tensor] = GatherRows.apply
    all_images, all_texts = gather(torch.cat((image, text), dim=1)).chunk(2, dim=1)  # one collective for both
    return all_images, all_texts, _gather(text_id), distributed.get_rank() * len(image)


def _gather(rows: Tensor) -> Tensor:
    """Rows of all ranks, in rank order, cut from the graph.  Every rank holds the same number."""
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
