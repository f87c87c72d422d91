"""A mixture: several sources in one stream, each in its share.  Which sample stands at which position is a pure function of the position.

The sources' positions are interleaved evenly by their weights, and each source has its own endless order: all of its samples once, in an
order of that epoch, before any a second time. So a source of a large weight begins its next epoch while others are in their first.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.manifest import WithoutKnownBad
from data_modules.corpora.stored_pairs import Stored
from data_modules.order import EndlessOrder
from data_modules.sources import Source, about_source, open_source, options_taken, read_in_sequence


class Part(NamedTuple):
    """One source of a mixture.

    Attributes:
        name: for people.
        source: the pairs.
        weight: its share is this over the sum of all.
        order: of its samples.
    """

    name: str
    source: Source
    weight: Fraction
    order: EndlessOrder


class Mixture:
    """Sources interleaved; it orders its samples itself, so index n of epoch e is position e * length + n of its stream."""

    orders_itself = True

    def __init__(self, parts: Sequence[Part], *, limit: int | None) -> None:
        """Take the parts; ``limit`` pairs are an epoch, as many as all sources hold by default."""
        self.parts = tuple(parts)
        unit = math.lcm(*(part.weight.denominator for part in parts))
        self._weights = [int(part.weight * unit) for part in parts]
        self._length = limit or sum(len(part.source) for part in parts)

    def __len__(self) -> int:
        """Pairs in an epoch of the mixture."""
        return self._length

    def blocks(self) -> list[int]:
        """One block: the sources' own orders have shards."""
        return [self._length]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the sources' digests and weights, and the length of an epoch."""
        said = [[part.source.digest(), str(part.weight)] for part in self.parts]
        return hashlib.sha256(json.dumps([said, self._length]).encode()).hexdigest()[:16]

    def locate(self, position: int) -> tuple[int, int]:
        """The part that a position of the stream takes, and the position in that part's stream.

        The first part takes every position where its share of the positions so far grows by one; of those that it leaves, the second
        takes its share, and so on. It is all integers: exact, and nothing to remember.
        """
        rest = sum(self._weights)
        for number, weight in enumerate(self._weights):
            taken = position * weight // rest
            if (position + 1) * weight // rest > taken:
                return number, taken
            position -= taken
            rest -= weight
        raise AssertionError("the last part takes what is left")

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """The pair that one source has at this position, drawn by that source's own epoch and index.

        Raises:
            BadSample: it cannot be had.
        """
        source, drawn_in, number = self._at(index, epoch)
        return source.pair(number, drawn_in)

    def stored(self, index: int) -> Stored:
        """The pair at a position of the first epoch, before anything is drawn.

        Raises:
            BadSample: its bytes cannot be had.
            ValueError: the source has no files.
        """
        source, _, number = self._at(index, 0)
        read = getattr(source, "stored", None)
        if read is None:
            raise ValueError("a source of this mixture has no files")
        stored: Stored = read(number)
        return stored

    def about(self) -> dict[str, Any]:
        """Each source with its share of the pairs, its samples, and what it says of itself."""
        total = sum(self._weights)
        parts = zip(self.parts, self._weights, strict=True)
        said = [
            {"source": part.name, "share": weight / total, "samples": len(part.source), **about_source(part.source)}
            for part, weight in parts
        ]
        return {"mixture": said}

    def _at(self, index: int, epoch: int) -> tuple[Source, int, int]:
        part, position = self.locate(epoch * self._length + index)
        ((own_epoch, number),) = self.parts[part].order.keys(position, position + 1)
        return self.parts[part].source, own_epoch, number


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    captions: CaptionRule = ANY_CAPTION,
    parts: Sequence[dict[str, Any]] = (),
    window: int = 1,
    cache: str | None = None,
    cache_gib: float = 50.0,
    max_bad_share: float = 0.1,
) -> Mixture:
    """Open all sources.

    Args:
        root: None; every part has its own.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: pairs that are an epoch; None for as many as all sources hold.
        captions: which texts are captions, in every source.
        parts: for each source ``source`` and ``root``, and, where wanted, ``weight`` (by default the number of its pairs, in all or none),
            ``limit``, ``manifest``, ``caption`` (the column, in place of that of ``captions``) and ``options``.
        window: shards of a source that are shuffled together.
        cache: as for tars, and so the next two, of every part that takes them.
        cache_gib: as for tars.
        max_bad_share: as for tars.

    Raises:
        ValueError: fewer than two parts, a weight that is not above 0 or only in some, a root beside those of the parts, or as the sources.
    """
    if root is not None:
        raise ValueError(f"data.root={root}: a mixture has a root in each of data.mixture; choose null")
    if len(parts) < 2:
        raise ValueError("data.source=mixture needs two parts or more: data.mixture=[{source: NAME, root: DIR, weight: 2}, {source: ...}]")
    if len({part.get("weight") is None for part in parts}) > 1:
        raise ValueError("data.mixture: give a weight to every part, or to none, where the numbers of pairs are the weights")
    given = {"captions": captions, "window": window, "cache": cache, "cache_gib": cache_gib, "max_bad_share": max_bad_share}
    made = []
    for number, part in enumerate(parts):
        try:
            made.append(_open_part(part, number, size=size, seed=seed, given=given))
        except ValueError as error:
            told = str(error).startswith("data.mixture[")
            raise error if told else ValueError(f"data.mixture[{number}], {part['source']}: {error}") from error
    return Mixture(made, limit=limit)


def _open_part(part: dict[str, Any], number: int, *, size: int, seed: int, given: dict[str, Any]) -> Part:
    name, weight = part["source"], part.get("weight")
    if name == "mixture":
        raise ValueError(f"data.mixture[{number}].source=mixture: a part is a source of its own; list its parts here")
    if weight is not None and not 0 < weight < math.inf:
        raise ValueError(f"data.mixture[{number}].weight={weight}: choose a number above 0")
    taken = options_taken(name)
    if part.get("caption") is not None:
        given = {**given, "captions": replace(given["captions"], column=part["caption"])}
    if "captions" not in taken and given["captions"] != ANY_CAPTION:
        raise ValueError(f"data.mixture[{number}].source={name}: its captions are its own, so leave caption and data.caption* as they are")
    options = {**{key: value for key, value in given.items() if key in taken}, **part.get("options", {})}
    source = open_source(name, root=part.get("root"), size=size, seed=seed, limit=part.get("limit"), **options)
    if read_in_sequence(source):
        raise ValueError(f"data.mixture[{number}].source={name}: it is read in sequence, and a mixture asks for any of its samples")
    source = source if part.get("manifest") is None else WithoutKnownBad(source, Path(part["manifest"]))
    order = EndlessOrder(source.blocks(), seed=seed, window=given["window"])
    return Part(name, source, Fraction(str(weight)) if weight is not None else Fraction(len(source)), order)
