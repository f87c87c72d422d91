"""Auxiliary losses that a training step adds to the contrastive loss. B pairs on this rank, N
patches, E shared width.

To add one, write a file here with a ``Term`` that is built from ``Parts``, and add its row to
``tables.py``. Nothing else changes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gestalt.losses.distillation import MaskToken
from gestalt.losses.keys import Loss
from gestalt.losses.noun_list import NounList
from gestalt.support.ranks import rank_share
from gestalt.tokens import Padded, Tokens


class Pairs(NamedTuple):
    """The pairs of a step as the model embeds them.

    Attributes:
        image: (B, E), L2-normalised.
        text: (B, E), L2-normalised.
        patches: (B, N, E), patch tokens in the shared space, not normalised; after sub-sampling.
            (B, N, E / 2) if the aggregation concatenates two vectors: compare these with the last
            E / 2 channels of ``text``.
        logit_scale: scalar, natural logarithm of the inverse temperature.
        text_id: (B,) int64, equal for equal captions.
        valid: (B,) bool, False for rows that are not pairs and must be masked; None if all are.
        batch: the whole batch, with ``nouns``, which captions name which, if a term reads nouns.
        embed_text: padded texts, or their tokens, to (K, E), L2-normalised, with the gradient; with
            ``of_locations=True`` to be compared with ``patches``.
        encode_text: padded texts to tokens by a frozen text tower, which may be kept; None if the
            tower is trained.
        encode_masked: encodes the images once more, a share of the patches of each replaced by a
            mask token: (token, share) to (B, N, E) as ``patches``.  The patches are drawn as a pure
            function of (seed, epoch, sample id).
    """

    image: Tensor
    text: Tensor
    patches: Tensor
    logit_scale: Tensor
    text_id: Tensor
    valid: Tensor | None
    batch: Mapping[str, Any]
    embed_text: Callable[..., Tensor]
    encode_text: Callable[[Padded], Tokens] | None
    encode_masked: Callable[[MaskToken, float], Tensor]

    def valid_rows(self) -> Tensor:
        """Return (B,) bool, True for pairs."""
        return torch.ones_like(self.text_id, dtype=torch.bool) if self.valid is None else self.valid


def good_rows(batch: Mapping[str, Any]) -> list[int]:
    """Return the rows of a batch that are pairs, by the places of bad ones, which are on the host:
    unlike reading ``valid``, this does not wait for the device.
    """
    return [row for row, place in enumerate(batch["place"]) if not place]


class Parts(NamedTuple):
    """The parts that a term is built from.

    Attributes:
        loss: the configuration of the loss.
        nouns: the V nouns of the captions; None without a term that reads nouns.
        pad: turns texts into what the text tower reads.
        tower_width: channels of the image tower's tokens.
        width: channels of the shared space.
        seed: seed of the run.
    """

    loss: Loss
    nouns: NounList | None
    pad: Callable[[list[str]], Padded]
    tower_width: int
    width: int
    seed: int


class Term(nn.Module):
    """An auxiliary loss. Its parameters, if it has any, are trained at the full learning rate.

    Attributes:
        reads_captions: False if it does not read ``pairs.text``, which is then zero without the
            contrastive loss.
    """

    reads_captions = True

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share: the mean over ranks of shares and of their gradients is the
        loss and the gradient of the global batch.

        Similarities are computed outside autocast (``without_autocast``), in float32 or wider.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Update state after a training step; by default there is none."""


def mean_over_ranks(values: Tensor, counted: Tensor) -> Tensor:
    """Return this rank's share of the mean of the values that count, over all ranks; 0 if none
    counts.

    Args:
        values: any shape, float32 or wider; those that do not count may be anything finite.
        counted: the same shape, bool.
    """
    return values.masked_fill(~counted, 0).sum() * rank_share(counted.sum().to(values.dtype))
