"""The frequent nouns of training captions, and the nouns that a caption names: one rule for every use.  B captions, V nouns."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gestalt.gather import gather_rows, world_size
from gestalt.terms.words import may_be_noun, nouns_of, replace_noun, words_of

DRAW = 8
"""Number that tells the draw of a negative caption from other draws of the same (seed, epoch, sample id)."""


class NounList:
    """Nouns in the singular, in alphabetical order.

    Attributes:
        nouns: V nouns.
    """

    def __init__(self, nouns: Sequence[str]) -> None:
        self.nouns = tuple(nouns)

    def __len__(self) -> int:
        return len(self.nouns)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {noun: index for index, noun in enumerate(self.nouns)}

    def named(self, texts: Sequence[str]) -> Tensor:
        """Return (B, V) bool, True for the nouns that a caption names, in singular or plural; an empty caption names none."""
        named = torch.zeros(len(texts), len(self), dtype=torch.bool)
        for row, text in zip(named, texts, strict=True):
            row[[self._indices[noun] for noun in self.named_by(text)]] = True
        return named

    def named_by(self, text: str) -> list[str]:
        """Return the nouns of the list that a caption names, each once, in order."""
        return [noun for noun in nouns_of(words_of(text), known=self._indices) if noun in self._indices]

    def negative(self, text: str, *, seed: int, epoch: int, sample_id: int) -> str | None:
        """Replace one noun that a caption names by one of the list that it does not name, both drawn uniformly.

        A pure function of list, caption, seed, epoch and sample id.

        Returns:
            The negative caption; None if the caption names no noun of the list, or all of them.
        """
        named = self.named_by(text)
        others = [noun for noun in self.nouns if noun not in named]
        if not named or not others:
            return None
        old, new = np.random.default_rng([seed, epoch, sample_id, DRAW]).random(2)
        made = replace_noun(text, named[int(old * len(named))], others[int(new * len(others))], known=self._indices)
        return None if made.lower() == text.lower() else made


def frequent_nouns(captions: Iterable[Sequence[str]], *, most: int, least_share: float) -> NounList:
    """List the nouns that the captions of at least ``least_share`` of the pairs name, the ``most`` frequent ones, in singular or plural.

    Args:
        captions: for each pair, the captions that it may have.
        most: largest V.
        least_share: (0, 1].
    """
    rows = [{word for text in texts for word in words_of(text)} for texts in captions]
    known = {word for row in rows for word in row if may_be_noun(word)}
    counts = Counter(noun for row in rows for noun in nouns_of(sorted(row), known=known))
    frequent = [noun for noun, count in counts.items() if count >= least_share * len(rows)]
    return NounList(sorted(sorted(frequent, key=lambda noun: (-counts[noun], noun))[:most]))


class SameOnRanks:
    """Check, once, that all ranks read the same nouns.

    Args:
        ids: token ids of the nouns, (V, N) int64.
        term: name of the term that reads them, for the message.
    """

    def __init__(self, ids: Tensor, *, term: str) -> None:
        self._own = int.from_bytes(hashlib.blake2b(repr(ids.tolist()).encode(), digest_size=7).digest(), "little")
        self._term = term
        self._checked = False

    def check(self, device: torch.device) -> None:
        """Compare the nouns of all ranks.

        Raises:
            ValueError: a rank could not read the captions that others read.
        """
        if self._checked or world_size() == 1:
            return
        if len(set(gather_rows(torch.tensor([self._own], device=device)).tolist())) > 1:
            raise ValueError(f"loss.terms.{self._term}: the ranks read different captions; make all of the data readable on every node")
        self._checked = True
