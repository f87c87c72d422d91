"""Mixtures: shares, no sample twice in an epoch of its source, and samples that depend only on the
position.
"""

from collections import Counter
from fractions import Fraction

import pytest
import torch

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.keys import MixturePart
from gestalt.data_modules.order import EndlessOrder
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source, open_source
from gestalt.data_modules.sources.mixture import Mixture, Part


class Numbers(Source):
    """A source whose pairs name the source, the index and the epoch."""

    def __init__(self, name, blocks):
        self.name = name
        self._blocks = blocks

    def __len__(self):
        return sum(self._blocks)

    def blocks(self):
        return self._blocks

    def digest(self):
        return f"{self.name}{self._blocks}"

    def pair(self, index, epoch):
        if index == 0:
            raise BadSample("truncated", where=self.name, key="0")
        return torch.zeros(3, 2, 2, dtype=torch.uint8), f"{self.name} {index} {epoch}"


def mixture(*parts, limit=None):
    """Of (name, blocks, weight)."""
    made = [
        Part(name, Numbers(name, blocks), Fraction(weight), EndlessOrder(blocks, seed=1, window=2))
        for name, blocks, weight in parts
    ]
    return Mixture(made, limit=limit)


THREE = (("a", [5, 7, 6], 5), ("b", [9], 2), ("c", [4, 4], "1/2"))


def test_each_source_keeps_its_share_over_short_intervals_and_is_read_in_its_order():
    mixed, positions = mixture(*THREE), Counter()
    numbers = []
    for position in range(3000):
        part, position_in_part = mixed.part_at(position)
        assert position_in_part == positions[part]
        positions[part] += 1
        numbers.append(part)
    for start in range(0, 2900, 7):
        seen = Counter(numbers[start : start + 75])
        for number, weight in enumerate((5, 2, 0.5)):
            assert abs(seen[number] - 75 * weight / 7.5) <= 2


RECIPE = {"recipe": "prototype"}


def scenes(limit, **keys):
    return MixturePart(**{"source": "scenes", "limit": limit, **keys}, options=RECIPE)


def test_batches_follow_the_streams_order_and_a_bad_sample_keeps_its_place():
    mixed = mixture(*THREE)
    data = ImageTextDataModule(mixed, size=2, batch_size=4, workers=0, seed=5)
    seen = [
        (text, bool(valid))
        for batch in data.train_dataloader()
        for text, valid in zip(batch["text"], batch["valid"], strict=True)
    ]
    assert len(seen) >= len(mixed) - 4
    for position, (text, valid) in enumerate(seen):
        part, position_in_part = mixed.part_at(position)
        ((epoch, index),) = mixed.parts[part].order.keys(position_in_part, position_in_part + 1)
        assert valid == (index != 0)
        assert text == (f"{mixed.parts[part].name} {index} {epoch}" if valid else "")


def test_the_digest_depends_on_weights_sources_and_lengths():
    digests = {
        mixture(*parts, limit=limit).digest()
        for parts, limit in [
            (THREE, None),
            (THREE, 30),
            (THREE[:2], None),
            ((("a", [5, 7, 6], 4), *THREE[1:]), None),
            ((("d", [3], 5), *THREE[1:]), None),
        ]
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ([scenes(5)], {}, "two parts or more"),
        ([scenes(5, weight=1), scenes(5)], {}, "to every part or to none"),
        ([scenes(5), scenes(5, source="mixture")], {}, "list its parts here"),
        (
            [scenes(5), MixturePart("tars", "no.tar")],
            {},
            r"^data\.mixture\[1\], tars: data\.root: 1 of 1 tars are missing",
        ),
        (
            [scenes(5), scenes(5)],
            {"captions": CaptionRule(template="a {}")},
            r"mixture\[0\], scenes: data\.caption, .* makes its own captions",
        ),
        (
            [scenes(5), scenes(5)],
            {"root": "DIR"},
            r"data\.root=DIR: each part of data\.mixture has its own root",
        ),
    ],
)
def test_an_invalid_mixture_is_refused(parts, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(
            "mixture",
            **{"root": None, "size": 8, "seed": 0, "limit": None, "parts": parts, **options},
        )
