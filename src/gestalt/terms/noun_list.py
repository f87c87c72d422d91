"""The frequent nouns of training captions, and the nouns that a caption names: one rule for every use.  B captions, V nouns."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.gather import gather_rows, world_size
from gestalt.terms.words import may_be_noun, nouns_of, replace_noun, words_of

DRAW = 8
"""Number that tells the draw of a negative caption from other draws of the same (seed, epoch, sample id)."""


class NounList:
    """Nouns in the singular, in alphabetical order.

    Attributes:
        nouns: V nouns.
        alike: (V, V) bool, True for nouns that may name the same thing (``alike_nouns``); None if every noun is alike itself only.
    """

    def __init__(self, nouns: Sequence[str], *, alike: Tensor | None = None) -> None:
        self.nouns = tuple(nouns)
        self.alike = alike

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
        """Replace one noun that a caption names by one of the list that it does not name and that is alike none of its nouns.

        Both are drawn uniformly.

        A pure function of list, caption, seed, epoch and sample id.

        Returns:
            The negative caption; None if the caption names no noun of the list, or no noun is left to draw.
        """
        named = self.named_by(text)
        others = [noun for noun in self.nouns if noun not in named]
        if self.alike is not None:
            near = self.alike[[self._indices[noun] for noun in named]].any(dim=0).tolist()
            others = [noun for noun in others if not near[self._indices[noun]]]
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


def alike_nouns(embeddings: Tensor, *, level: float) -> Tensor:
    """Return which nouns may name the same thing: those whose embeddings (V, W) have a cosine of ``level`` or more.  Returns (V, V) bool.

    A noun is alike itself.
    """
    vectors = functional.normalize(embeddings.double(), dim=-1)
    return (vectors @ vectors.T >= level) | torch.eye(len(vectors), dtype=torch.bool)


class SameOnRanks:
    """Check, once, that all ranks read the same nouns and find the same ones alike.

    Args:
        ids: token ids of the nouns, (V, N) int64.
        term: name of the term that reads them, for the message.
        alike: of ``alike_nouns``; None without it.
    """

    def __init__(self, ids: Tensor, *, term: str, alike: Tensor | None = None) -> None:
        self._own = [_number(ids.tolist()), _number(None if alike is None else alike.tolist())]
        self._term = term
        self._checked = False

    def check(self, device: torch.device) -> None:
        """Compare the nouns of all ranks.

        Raises:
            ValueError: a rank could not read the captions that others read, or rounds a cosine to the other side of the level.
        """
        if self._checked or world_size() == 1:
            return
        ids, alike = zip(*gather_rows(torch.tensor([self._own], device=device)).tolist(), strict=True)
        if len(set(ids)) > 1:
            raise ValueError(f"loss.terms.{self._term}: the ranks read different captions; make all of the data readable on every node")
        if len(set(alike)) > 1:
            raise ValueError(f"loss.terms.{self._term}: the ranks find different nouns alike; change loss.nouns_alike by a little")
        self._checked = True


def _number(value: object) -> int:
    """Return a number of 56 bits that tells values apart."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=7).digest(), "little")
