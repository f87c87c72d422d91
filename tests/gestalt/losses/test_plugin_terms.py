"""Negative captions: one noun replaced, as a pure function of (seed, epoch, sample id)."""

import pytest
import torch

from gestalt.losses.noun_list import NounList
from gestalt.losses.words import plural, replace_noun, singular

NOUNS = NounList(["apple", "bus", "dog", "man", "shorts", "umbrella", "unicycle"])


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("fireman", "firemen"),
        ("human", "humans"),
        ("child", "children"),
        ("box", "boxes"),
        ("dress", "dresses"),
        ("bench", "benches"),
        ("kangaroo", "kangaroos"),
        ("potato", "potatoes"),
        ("shorts", "shorts"),
        ("sheep", "sheep"),
    ],
)
def test_the_plural_of_a_noun(noun: str, expected: str) -> None:
    assert plural(noun) == expected
    assert singular(expected, known={noun}) == noun


@pytest.mark.parametrize(
    ("caption", "old", "new", "expected"),
    [
        ("A dog, two dogs and a Dog.", "dog", "man", "A man, two men and a Man."),
        ("DOGS run", "dog", "bus", "BUSES run"),
        ("dogged dog-sled  of a dog", "dog", "man", "dogged dog-sled  of a man"),
        ("A dog and a big dog", "dog", "apple", "An apple and a big apple"),
        ("an\tapple", "apple", "unicycle", "a\tunicycle"),
        ("An apple", "apple", "umbrella", "An umbrella"),
        ("caf\u00e9 dog \u0130 dog", "dog", "bus", "caf\u00e9 bus \u0130 bus"),
        ("a man in shorts", "shorts", "dog", "a man in dog"),
        ("men in shorts", "man", "shorts", "shorts in shorts"),
    ],
)
def test_every_occurrence_of_a_noun_is_replaced_and_nothing_else(caption: str, old: str, new: str, expected: str) -> None:
    assert replace_noun(caption, old, new, known=NOUNS.nouns) == expected


CAPTIONS = ["A dog and a man on a bus", "two buses", "Men in shorts with an umbrella", "apples", "a DOG \u0130 dogs"]


def test_a_negative_replaces_one_noun_by_one_that_the_caption_does_not_name() -> None:
    for number in range(300):
        caption = CAPTIONS[number % len(CAPTIONS)]
        negative = NOUNS.negative(caption, seed=3, epoch=number, sample_id=number)
        assert negative is not None
        before, after = set(NOUNS.named_by(caption)), set(NOUNS.named_by(negative))
        assert len(before - after) == len(after - before) == 1
        assert len(before) == len(after)


def test_every_named_noun_can_be_replaced_by_every_absent_noun() -> None:
    caption, pairs = CAPTIONS[0], set()
    for epoch in range(400):
        negative = NOUNS.negative(caption, seed=0, epoch=epoch, sample_id=0)
        assert negative is not None
        before, after = set(NOUNS.named_by(caption)), set(NOUNS.named_by(negative))
        pairs.add((*(before - after), *(after - before)))
    assert pairs == {(old, new) for old in ("dog", "man", "bus") for new in ("apple", "shorts", "umbrella", "unicycle")}


def test_a_noun_is_never_replaced_by_one_alike() -> None:
    alike = torch.eye(len(NOUNS.nouns), dtype=torch.bool)
    bus, unicycle = (NOUNS.nouns.index(noun) for noun in ("bus", "unicycle"))
    alike[bus, unicycle] = alike[unicycle, bus] = True
    nouns = NounList(NOUNS.nouns, alike=alike)
    drawn = [nouns.negative("two buses and a dog", seed=0, epoch=epoch, sample_id=0) for epoch in range(200)]
    assert {noun for text in drawn if text for noun in nouns.named_by(text)} == set(NOUNS.nouns) - {"unicycle"}
    assert NounList(["cat", "kitten"], alike=torch.ones(2, 2, dtype=torch.bool)).negative("a cat", seed=0, epoch=0, sample_id=0) is None


def test_the_draw_depends_on_seed_epoch_and_sample_alone() -> None:
    def drawn(**changed: int) -> list[str | None]:
        keys = [{"seed": 1, "epoch": epoch, "sample_id": number, **changed} for epoch in range(4) for number in range(4)]
        return [NOUNS.negative(CAPTIONS[0], **key) for key in keys]

    assert drawn() == drawn()
    assert len({tuple(drawn(**changed)) for changed in ({}, {"seed": 2}, {"epoch": 2}, {"sample_id": 2})}) == 4


def test_captions_without_a_noun_or_with_all_of_them_have_no_negative() -> None:
    assert NOUNS.negative("somebody walks", seed=0, epoch=0, sample_id=0) is None
    assert NOUNS.negative("", seed=0, epoch=0, sample_id=0) is None
    assert NounList(["cat", "dog"]).negative("dogs and a cat", seed=0, epoch=0, sample_id=0) is None


def test_a_negative_is_never_the_caption() -> None:
    nouns = NounList(["glass", "glasses"])  # of which the second is never named
    assert nouns.negative("two glasses", seed=0, epoch=0, sample_id=0) is None
    assert nouns.negative("a glass", seed=0, epoch=0, sample_id=0) == "a glasses"
