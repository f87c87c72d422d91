"""The frequent nouns of training captions, and the nouns that a caption names: one rule for every use.  B captions, V nouns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from gestalt.terms.words import may_be_noun, singular, words_of

NONE = -1
"""Index of no noun."""

MOST_OF_A_CAPTION = 8
"""Nouns of a caption that are read; with the same number for every caption no step has a shape of its own."""


class NounList:
    """Nouns in the singular, in alphabetical order.

    Attributes:
        nouns: V of them.
    """

    def __init__(self, nouns: Sequence[str]) -> None:
        self.nouns = tuple(nouns)

    def __len__(self) -> int:
        return len(self.nouns)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {noun: index for index, noun in enumerate(self.nouns)}

    def named(self, texts: Sequence[str]) -> Tensor:
        """Return the nouns that each caption names, in singular or plural: (B, ``MOST_OF_A_CAPTION``) int64, in order, then ``NONE``."""
        rows = [[*self._of(text), *[NONE] * MOST_OF_A_CAPTION][:MOST_OF_A_CAPTION] for text in texts]
        return torch.tensor(rows, dtype=torch.int64).view(len(texts), MOST_OF_A_CAPTION)

    def _of(self, text: str) -> list[int]:
        words = words_of(text)
        indices = (self._indices.get(singular(word, known=self._indices)) for word in words)
        return list(dict.fromkeys(index for index in indices if index is not None))


def frequent_nouns(captions: Iterable[Sequence[str]], *, most: int, least_share: float) -> NounList:
    """List the nouns that the captions of at least ``least_share`` of the pairs name, the ``most`` frequent ones, in singular or plural.

    Args:
        captions: of each pair, all its captions.
        most: largest V.
        least_share: (0, 1].
    """
    rows = [{word for text in texts for word in words_of(text)} for texts in captions]
    known = {word for row in rows for word in row}
    nouns = ({singular(word, known=known) for word in row if may_be_noun(word)} for row in rows)
    counts = Counter(noun for row in nouns for noun in row if may_be_noun(noun))
    frequent = [noun for noun, count in counts.items() if count >= least_share * len(rows)]
    return NounList(sorted(sorted(frequent, key=lambda noun: (-counts[noun], noun))[:most]))
