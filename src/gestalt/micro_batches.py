"""Embed a batch in micro-batches, each of which the backward pass embeds again: memory for one, loss and gradient of all.

A contrastive loss needs every embedding of the batch, but no activations of the towers: those are recomputed, one micro-batch at a time,
from the gradient with respect to its embeddings.

Source: Gao et al. 2021 (arXiv:2101.06983), section 3, gradient caching; here by torch's checkpointing of each micro-batch.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gestalt.distillation.masks import MaskToken, masked_patches
from gestalt.model import DualEncoder, Embeddings
from gestalt.tokens import Features, Padded, Tokens
from gestalt.valid_rows import scatter

Images = Tensor | Features
Texts = list[str] | Padded | Tokens


def image_size(batch: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of a batch's images in pixels, also where it has their features."""
    return (batch["side"], batch["side"]) if "features" in batch else tuple(batch["image"].shape[-2:])


def embed(model: DualEncoder, batch: Mapping[str, Any], *, keep: Tensor | None, parts: int, dense: bool = False) -> Embeddings:
    """Embed the pairs of a batch in ``parts`` micro-batches of equal size, or that differ by one.

    ``keep`` and ``dense`` are as in ``DualEncoder``; patches that are returned stay in memory for the whole batch.
    """
    images: Images = Features(batch["features"], batch["side"]) if "features" in batch else batch["image"]
    texts = _texts(batch)
    asked = {"dense": True} if dense else {}
    if parts == 1:
        return model(images, texts, keep=keep, **asked)  # type: ignore[no-any-return]
    made = [
        _twice(
            partial(model, _rows(images, start, end), _rows(texts, start, end), keep=None if keep is None else keep[start:end], **asked),
            device=(images.values if isinstance(images, Features) else images).device,
        )
        for start, end in _spans(len(batch["text"]), parts=parts)
    ]
    image, text = torch.cat([part.image for part in made]), torch.cat([part.text for part in made])
    patches = [part.patches for part in made if part.patches is not None]
    return Embeddings(image, text, parts=made[0].parts, patches=torch.cat(patches) if patches else None)


def embed_text(model: DualEncoder, texts: Padded | Tokens, *, parts: int) -> Tensor:
    """Embed K texts for terms of the loss in ``parts`` micro-batches, as ``embed`` does.  Returns (K, E), L2-normalised."""
    if parts == 1:
        return model.embed_text(texts)
    values = texts.parts if isinstance(texts, Tokens) else texts.ids
    spans = _spans(len(values), parts=parts)
    return torch.cat([_twice(partial(model.embed_text, _rows(texts, start, end)), device=values.device) for start, end in spans])


def encode_masked(
    model: DualEncoder,
    batch: Mapping[str, Any],
    rows: Tensor | None,
    token: MaskToken,
    share: float,
    *,
    keep: Tensor | None,
    seed: int,
    parts: int,
) -> Tensor:
    """Encode the images of a batch, a share of the patches of each replaced by the token.

    ``keep`` is as in ``DualEncoder``; the images are encoded in ``parts`` micro-batches, as ``embed`` does.

    Returns:
        Projected patches (B, N, E), at the ``rows`` of the whole batch and zeros elsewhere; None if ``batch`` is whole.
    """
    images: Tensor = batch["image"]
    height, width = model.image_tower.grid(*images.shape[-2:])
    mask = masked_patches(batch["sample_id"], batch["epoch"], seed=seed, view=0, total=height * width, share=share)

    def encode(start: int, end: int) -> Tensor:
        kept = None if keep is None else keep[start:end]
        with token.replacing(model.image_tower.trunk, mask[start:end]):
            return model.image.project(model.tokens(images[start:end], kept)).parts

    count = len(batch["valid"])
    if parts == 1:
        return scatter(encode(0, len(images)), rows, count=count)
    patches = [_twice(partial(encode, *span), device=images.device) for span in _spans(len(images), parts=parts)]
    return scatter(torch.cat(patches), rows, count=count)


def _spans(count: int, *, parts: int) -> list[tuple[int, int]]:
    """Return first and end of each micro-batch of ``count`` pairs; fewer than ``parts`` where there are fewer pairs."""
    ends = [count * part // parts for part in range(parts + 1)]
    return [(start, end) for start, end in pairwise(ends) if start < end]


def _texts(batch: Mapping[str, Any]) -> Texts:
    """Return the captions of a batch: padded or as texts, whichever it has."""
    return Padded(batch["token_ids"], batch["token_mask"]) if "token_ids" in batch else batch["text"]


def _rows(items: Any, start: int, end: int) -> Any:
    """Select rows of a tensor or a list, or of each tensor in a tuple of them."""
    if isinstance(items, tuple):
        return items.__class__(*(part[start:end] if isinstance(part, Tensor) else part for part in items))
    return items[start:end]


def _twice(function: Callable[[], Any], *, device: torch.device) -> Any:
    """Return what a function of the model returns, and call it once more in the backward pass, with the same random state.

    Autocast casts the weights anew for each micro-batch: with its cache, their gradients would be summed in the lower precision.
    """
    enabled, dtype = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
    with torch.autocast(device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
        return checkpoint(function, use_reentrant=False)


def batch_statistics(model: DualEncoder) -> list[str]:
    """Return the names of the batch norms that take their statistics from the batch in training; the model is set to train."""
    return [name for name, module in model.train().named_modules() if isinstance(module, _BatchNorm) and module.training]


def check_separable(model: DualEncoder, *, parts: int) -> None:
    """Check that the embedding of a pair does not depend on the other pairs of the batch, if there are several parts.

    Raises:
        ValueError: names a batch norm that takes its statistics from the batch.
    """
    mixing = batch_statistics(model)
    if parts > 1 and mixing:
        raise ValueError(
            f"trainer.accumulate_grad_batches={parts}: the batch norm {mixing[0]} takes its statistics from the images beside it, so that "
            "micro-batches would change the loss; choose 1, pretrained weights, whose statistics stay, or a backbone without batch norms"
        )
