"""A mixture: several sources in one stream, each with its share.  The sample at a position is a
pure function of the position.

The sources are interleaved evenly by their weights, and each has its own endless order, in which
every epoch is a new permutation of its samples.  So a source with a large weight begins its next
epoch while others are in their first.
"""

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.keys import MixturePart
from gestalt.data_modules.order import EndlessOrder
from gestalt.data_modules.pairs import Relocated, Source
from gestalt.data_modules.pixels.augment import USUAL, Augmentation
from gestalt.data_modules.sources import open_source
from gestalt.support.files import Fields, short_digest


class Part(NamedTuple):
    """One source of a mixture.

    Attributes:
        name: name of the source.
        source: the pairs.
        weight: its share is the weight over the sum of all weights.
        order: order of its samples.
    """

    name: str
    source: Source
    weight: Fraction
    order: EndlessOrder


class Mixture(Relocated):
    """Interleaved sources.  Index n of epoch e is position e * length + n of the stream, so the
    loader must not shuffle.
    """

    orders_itself = True

    def __init__(
        self, parts: Sequence[Part], *, limit: int | None, crops: int | None = None
    ) -> None:
        """Take the parts, opened with ``crops``, and the number of pairs in an epoch, by default
        the number in all sources.
        """
        self.crops = crops
        self.parts = parts
        unit = math.lcm(*(part.weight.denominator for part in parts))
        self._weights = [int(part.weight * unit) for part in parts]
        self._length = limit or sum(len(part.source) for part in parts)

    def __len__(self) -> int:
        return self._length

    def digest(self) -> str:
        """Return the digest of the sources' digests, their weights, and the length of an epoch."""
        weighted = [[part.source.digest(), str(part.weight)] for part in self.parts]
        return short_digest(json.dumps([weighted, self._length]))

    def part_at(self, position: int) -> tuple[int, int]:
        """Return the number of the part at a position of the stream, and the position in that
        part's stream.

        The first part takes each position at which its share of the positions so far grows by one;
        the second takes its share of the remaining ones, and so on.  Integer arithmetic keeps this
        exact and free of state.
        """
        rest = sum(self._weights)
        for number, weight in enumerate(self._weights):
            taken = position * weight // rest
            if (position + 1) * weight // rest > taken:
                return number, taken
            position -= taken
            rest -= weight
        raise AssertionError("the last part takes all remaining positions")

    def about(self) -> Fields:
        """Return each source's name, share of the pairs, number of samples and facts."""
        total = sum(self._weights)
        parts = [
            {
                "source": part.name,
                "share": weight / total,
                "samples": len(part.source),
                **part.source.about(),
            }
            for part, weight in zip(self.parts, self._weights, strict=True)
        ]
        return {"mixture": parts}

    def locate(self, index: int, epoch: int) -> tuple[Source, int, int]:
        """Return the source at a position, and the index and epoch in that source."""
        number, position = self.part_at(epoch * self._length + index)
        part = self.parts[number]
        ((source_epoch, source_index),) = part.order.keys(position, position + 1)
        return part.source, source_index, source_epoch


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    crops: int | None = None,
    augmentation: Augmentation = USUAL,
    captions: CaptionRule,
    parts: Sequence[MixturePart] = (),
    window: int = 1,
    cache: str | None = None,
    max_bad_share: float = 0.1,
    outside: bool = True,
) -> Mixture:
    """Open all sources.  ``open_source`` documents the other arguments.

    Args:
        root: None; each part has its own.
        limit: number of pairs in an epoch; None for the number in all sources.
        crops: number of different crops of each image, counted by the epochs of its source.
        captions: selects the caption, in each source.
        parts: the keys of each source; ``weight`` is set in all parts or in none, and ``caption``
            replaces the column and the table of ``captions``.
        window: number of shards of a source that are shuffled together.
        cache: folder for indices and unpacked tars, of the parts that take it.
        max_bad_share: largest share of missing or empty shards, of the parts that take it.
        outside: False to refuse files outside of their folder, in the parts that take it.

    Raises:
        ValueError: fewer than two parts, weights in some parts only, a root, or a part that cannot
            be opened.
    """
    if root is not None:
        raise ValueError(
            f"data.root={root}: each part of data.mixture has its own root; choose null"
        )
    if len(parts) < 2:
        raise ValueError(
            "data.source=mixture needs two parts or more: data.mixture=[{source: NAME, root: DIR, "
            "weight: 2}, {source: ...}]"
        )
    if len({part.weight is None for part in parts}) > 1:
        raise ValueError(
            "data.mixture: give a weight to every part or to none; without weights the numbers of "
            "pairs are used"
        )
    opened = []
    for number, part in enumerate(parts):
        name, weight = part.source, part.weight
        if weight is not None and not 0 < weight < math.inf:
            raise ValueError(f"data.mixture[{number}].weight={weight}: choose a number above 0")
        rule = captions
        if part.caption:
            rule = captions._replace(column=part.caption, table=None)
        try:
            if name == "mixture":
                raise ValueError("mixtures cannot be nested; list its parts here")
            source = open_source(
                name,
                root=part.root,
                size=size,
                seed=seed,
                limit=part.limit,
                crops=crops,
                augmentation=augmentation,
                manifest=part.manifest,
                offered={
                    "captions": rule,
                    "window": window,
                    "cache": cache,
                    "max_bad_share": max_bad_share,
                    "outside": outside,
                },
                **part.options,
            )
            if source.in_sequence:
                raise ValueError(
                    "it can only be read in sequence, but a mixture needs access to any sample"
                )
            order = EndlessOrder(source.blocks(), seed=seed, window=window)
        except ValueError as error:
            raise ValueError(f"data.mixture[{number}], {name}: {error}") from error
        share = Fraction(str(len(source) if weight is None else weight))
        opened.append(Part(name, source, share, order))
    return Mixture(opened, limit=limit, crops=crops)
