"""Embed the valid pairs of a batch in micro-batches, which the backward pass embeds again: memory
for one, loss and gradient of all.

A contrastive loss needs every embedding of the batch, but no activations of the towers: those are
recomputed, one micro-batch at a time, from the gradient with respect to its embeddings.  B pairs of
the batch.

Source: Gao et al. 2021 (arXiv:2101.06983), section 3, gradient caching; here by torch's
checkpointing of each micro-batch.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gestalt.losses.distillation import MaskToken, masked_patches
from gestalt.losses.terms import Pairs, good_rows
from gestalt.model import DualEncoder, Embeddings
from gestalt.support.devices import send
from gestalt.tokens import Features, Padded, Tokens

Batch = Mapping[str, Any]
"""An ``ImageTextBatch``, or some of its rows."""

BY_ROW = ("image", "features", "token_ids", "token_mask", "sample_id", "epoch", "keep")
"""Fields of a batch that the towers and the draws read, by row; a batch has some of them."""


class MicroBatches:
    """The pairs of a batch as the towers read them; embeddings are at the rows of the batch, those
    of bad pairs undefined.

    All ranks gather equally many rows, and so the rows of bad pairs stay.  Embeddings do not depend
    on ``parts``.

    Args:
        model: the dual encoder.
        batch: an ``ImageTextBatch``.
        keep: (B, K) int64, patch tokens that each image keeps; None for all.
        parts: number of micro-batches of equal size, or that differ by one.
        seed: seed of the masks of ``encode_masked``.
        whole: True to embed bad pairs as well, so that shapes stay the same.
    """

    def __init__(
        self,
        model: DualEncoder,
        batch: Batch,
        *,
        keep: Tensor | None,
        parts: int,
        seed: int,
        whole: bool = False,
    ) -> None:
        self.model = model
        self.batch = batch
        self.parts = parts
        self.seed = seed
        # DDP needs every parameter in the graph: a batch without a valid pair is embedded too
        whole = whole or batch["valid_count"] in (0, len(batch["text"]))
        self.inputs = batch if keep is None else {**batch, "keep": keep}
        self.rows: Tensor | None = None
        if not whole:
            good = good_rows(batch)
            self.rows = send(torch.tensor(good), model.logit_scale.device)
            self.inputs = take(self.inputs, self.rows, [batch["text"][row] for row in good])

    def embed(self, *, dense: bool, captions: bool = True) -> Embeddings:
        """Embed the pairs, or their images alone; with ``dense`` the patches too, which stay in
        memory for the whole batch.
        """

        def embed(part: Batch) -> Embeddings:
            images = (
                Features(part["features"], part["side"]) if "features" in part else part["image"]
            )
            texts = (
                Padded(part["token_ids"], part["token_mask"])
                if "token_ids" in part
                else part["text"]
            )
            return self.model(
                images, texts if captions else None, keep=part.get("keep"), dense=dense
            )

        parts = self._of_pairs(embed)
        patches = [part.patches for part in parts if part.patches is not None]
        return Embeddings(
            self._scatter([part.image for part in parts]),
            self._scatter([part.text for part in parts]),
            parts=parts[0].parts,
            patches=self._scatter(patches) if patches else None,
        )

    def pairs(self, embeddings: Embeddings, *, text_id: Tensor, valid: Tensor | None) -> Pairs:
        """Return what terms of the loss read: the dense embeddings, their captions' ids, and the
        towers themselves.
        """
        model = self.model
        assert embeddings.patches is not None
        return Pairs(
            image=embeddings.image,
            text=embeddings.text,
            patches=embeddings.patches,
            logit_scale=model.logit_scale,
            text_id=text_id,
            valid=valid,
            batch=self.batch,
            embed_text=self.embed_text,
            encode_text=model.text_tower if model.text_tower.frozen else None,
            encode_masked=self.encode_masked,
        )

    def embed_text(self, texts: Padded | Tokens, *, of_locations: bool = False) -> Tensor:
        """Embed K texts for terms of the loss, to compare them with locations or with images.
        Returns (K, E), L2-normalised.
        """
        model = self.model
        embed = model.embed_text_for_locations if of_locations else model.embed_text

        def part_of(span: slice) -> Padded | Tokens:
            fields: dict[str, Any] = {
                name: value[span]
                for name, value in texts._asdict().items()
                if isinstance(value, Tensor)
            }
            return texts._replace(**fields)

        return torch.cat(self._in_parts(embed, part_of, count=len(texts.mask)))

    def encode_masked(self, token: MaskToken, share: float) -> Tensor:
        """Encode the images, a share of the patches of each replaced by the token.  Returns
        projected patches (B, N, E).
        """
        height, width = self.model.image_tower.grid(*image_size(self.inputs))
        draw = partial(masked_patches, seed=self.seed, view=0, total=height * width, share=share)

        def encode(part: Batch) -> Tensor:
            with token.replacing(
                self.model.image_tower.trunk, draw(part["sample_id"], part["epoch"])
            ):
                return self.model.locations(self.model.tokens(part["image"], part.get("keep")))

        return self._scatter(self._of_pairs(encode))

    def _of_pairs(self, function: Callable[[Batch], Any]) -> list[Any]:
        """Call a function of the model with each micro-batch of the pairs."""
        texts = self.inputs["text"]
        return self._in_parts(
            function, lambda rows: take(self.inputs, rows, texts[rows]), count=len(texts)
        )

    def _in_parts(
        self, function: Callable[[Any], Any], part_of: Callable[[slice], Any], *, count: int
    ) -> list[Any]:
        """Call a function of the model with each part of ``count`` rows, with activation
        checkpointing where there are several; with fewer than ``parts`` where there are fewer rows.

        Autocast casts the weights anew for each part: with its cache, their gradients would be
        summed in the lower precision.
        """
        if self.parts == 1:
            return [function(part_of(slice(None)))]
        ends = [count * part // self.parts for part in range(self.parts + 1)]
        device = self.model.logit_scale.device.type
        with torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        ):
            return [
                checkpoint(function, part_of(slice(start, end)), use_reentrant=False)
                for start, end in pairwise(ends)
                if start < end
            ]

    def _scatter(self, parts: list[Tensor]) -> Tensor:
        """Put vectors, or the patches of images, at their rows of the batch."""
        vectors = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.rows is None:
            return vectors
        return vectors.new_zeros(len(self.batch["text"]), *vectors.shape[1:]).index_copy(
            0, self.rows, vectors
        )


def take(batch: Batch, rows: Tensor | slice, texts: list[str]) -> dict[str, Any]:
    """Return some rows of the fields that the towers and the draws read; ``texts`` are those of the
    rows.
    """
    return {**batch, **{key: batch[key][rows] for key in BY_ROW if key in batch}, "text": texts}


def image_size(batch: Batch) -> tuple[int, int]:
    """Return height and width of a batch's images in pixels, also where it has their features."""
    if "features" in batch:
        return batch["side"], batch["side"]
    return tuple(batch["image"].shape[-2:])


def batch_statistics(model: DualEncoder) -> list[str]:
    """Return the names of the batch norms that take their statistics from the batch in training;
    the model is set to train.
    """
    return [
        name
        for name, module in model.train().named_modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
