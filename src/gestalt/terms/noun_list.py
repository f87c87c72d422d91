"""The frequent nouns of training captions, and the nouns that a caption names: one rule for every use.  B captions, V nouns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from gestalt.terms.words import may_be_noun, nouns_of, words_of


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
        """Return (B, V) bool, True for the nouns that a caption names, in singular or plural; an empty caption names none."""
        named = torch.zeros(len(texts), len(self), dtype=torch.bool)
        for row, text in zip(named, texts, strict=True):
            nouns = nouns_of(words_of(text), known=self._indices)
            row[[self._indices[noun] for noun in nouns if noun in self._indices]] = True
        return named


def frequent_nouns(captions: Iterable[Sequence[str]], *, most: int, least_share: float) -> NounList:
    """List the nouns that the captions of at least ``least_share`` of the pairs name, the ``most`` frequent ones, in singular or plural.

    Args:
        captions: of each pair, all its captions.
        most: largest V.
        least_share: (0, 1].
    """
    rows = [{word for text in texts for word in words_of(text)} for texts in captions]
    known = {word for row in rows for word in row if may_be_noun(word)}
    counts = Counter(noun for row in rows for noun in nouns_of(sorted(row), known=known))
    frequent = [noun for noun, count in counts.items() if count >= least_share * len(rows)]
    return NounList(sorted(sorted(frequent, key=lambda noun: (-counts[noun], noun))[:most]))
