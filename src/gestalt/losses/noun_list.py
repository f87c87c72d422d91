"""The frequent nouns of training captions, and the nouns that a caption names: one rule for every
use.  B captions, V nouns.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.losses.words import may_be_noun, nouns_of, words_of
from gestalt.support.ranks import gather_rows, world_size


@dataclass(frozen=True, eq=False)
class NounList:
    """Nouns in the singular, in alphabetical order.

    Attributes:
        nouns: V nouns.
        similar: (V, V) bool, True for nouns that may name the same thing (``similar_nouns``), which
            are not negatives of each other; None if every noun is like itself only.
    """

    nouns: Sequence[str]
    similar: Tensor | None = None

    def __len__(self) -> int:
        return len(self.nouns)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {noun: index for index, noun in enumerate(self.nouns)}

    def mark(self, texts: Sequence[str]) -> Tensor:
        """Mark the nouns that a caption names, in singular or plural, by True in (B, V) bool; an
        empty caption names none.
        """
        marks = torch.zeros(len(texts), len(self), dtype=torch.bool)
        for row, text in zip(marks, texts, strict=True):
            row[[self._indices[noun] for noun in self.find(text)]] = True
        return marks

    def find(self, text: str) -> list[str]:
        """Find the nouns of the list that a caption names, each once, in order."""
        return [
            noun for noun in nouns_of(words_of(text), known=self._indices) if noun in self._indices
        ]


def frequent_nouns(captions: Iterable[Sequence[str]], *, most: int, least_share: float) -> NounList:
    """List the nouns that the captions of at least ``least_share`` of the pairs name, the ``most``
    frequent ones, in singular or plural.

    Args:
        captions: for each pair, the captions that it may have.
        most: largest V.
        least_share: (0, 1].
    """
    rows = [{word for text in texts for word in words_of(text)} for texts in captions]
    known = {word for row in rows for word in row if may_be_noun(word)}
    counts = Counter(noun for row in rows for noun in nouns_of(sorted(row), known=known))
    frequent = [noun for noun, count in counts.items() if count >= least_share * len(rows)]
    frequent.sort(key=lambda noun: (-counts[noun], noun))
    return NounList(tuple(sorted(frequent[:most])))


def similar_nouns(embeddings: Tensor, *, level: float) -> Tensor:
    """Return which nouns may name the same thing: those whose embeddings (V, W) have a cosine of
    ``level`` or more.  Returns (V, V) bool.

    A noun is like itself.
    """
    vectors = functional.normalize(embeddings.double(), dim=-1)
    return (vectors @ vectors.T >= level) | torch.eye(len(vectors), dtype=torch.bool)


class SameOnRanks:
    """Check, once, that all ranks read the same nouns and find the same ones alike.

    Args:
        nouns: the nouns of this rank.
        term: name of the term that reads them, for the message.
    """

    def __init__(self, nouns: NounList, *, term: str) -> None:
        self._digests = [
            _number(nouns.nouns),
            _number(None if nouns.similar is None else nouns.similar.tolist()),
        ]
        self._term = term
        self._checked = False

    def check(self, device: torch.device) -> None:
        """Compare the nouns of all ranks.

        Raises:
            ValueError: a rank could not read the captions that others read, or rounds a cosine to
                the other side of the level.
        """
        if self._checked or world_size() == 1:
            return
        nouns, similar = zip(
            *gather_rows(torch.tensor([self._digests], device=device)).tolist(), strict=True
        )
        if len(set(nouns)) > 1:
            raise ValueError(
                f"loss.terms.{self._term}: the ranks read different captions; make all of the data "
                "readable on every node"
            )
        if len(set(similar)) > 1:
            raise ValueError(
                f"loss.terms.{self._term}: the ranks find different nouns alike; change "
                "loss.nouns_alike by a little"
            )
        self._checked = True


def _number(value: object) -> int:
    """Return a number of 56 bits that tells values apart."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=7).digest(), "little")
