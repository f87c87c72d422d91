"""Captions: which text of a sample is read, and what is none."""

import numpy as np
import pytest

from gestalt.data_modules.corpora.captions import (
    MAX_LENGTH,
    CaptionRule,
    choose_caption,
    usable_texts,
)
from gestalt.data_modules.pixels.bad_samples import BadSample


def chosen(captions, *, epoch=0, **rule):
    return choose_caption(captions, CaptionRule(**rule), seed=0, epoch=epoch, index=3)


def test_an_unusable_caption_among_several_is_not_drawn_and_the_other_draws_stay():
    whole, broken, epochs = ["one", "two", "three"], ["one", b"\xff", "three"], range(60)
    draws = [whole[int(np.random.default_rng([0, epoch, 3, 2]).random() * 3)] for epoch in epochs]
    assert {chosen(whole, choice="first", epoch=epoch) for epoch in epochs} == {"one"}
    assert [chosen(whole, epoch=epoch) for epoch in epochs] == draws
    mixed = [chosen(broken, epoch=epoch) for epoch in epochs]
    assert [text for text, draw in zip(mixed, draws, strict=True) if draw != "two"] == [
        draw for draw in draws if draw != "two"
    ]
    assert {text for text, draw in zip(mixed, draws, strict=True) if draw == "two"} == {
        "one",
        "three",
    }
    assert {chosen(["", "two", None], epoch=epoch) for epoch in epochs} == {"two"}


WEIGHTS, SENTENCES = {"a": 3, "own": 0, "b": 1, "c": 0}, ["3.5 m!", "Two.", "U.S.A?", "x"]


def by_reference(columns, part, epoch):
    """The draw of a caption, written down anew."""
    *_, column, count, position = np.random.default_rng([0, epoch, 3, 2]).random(5)
    names = sorted((n for n in WEIGHTS if columns[n]), key=lambda n: -WEIGHTS[n])
    ends = np.cumsum([WEIGHTS[name] for name in names])
    name = names[int(np.searchsorted(ends, column * ends[-1]))]
    if part == "whole" or name != "a":
        return columns[name]
    many = 1 if part == "sentence" else 1 + int(3 * count)
    first = int(position * (len(SENTENCES) - many + 1))
    return " ".join(SENTENCES[first : first + many])


@pytest.mark.parametrize("part", ["whole", "sentence", "merge3"])
@pytest.mark.parametrize("empty", ["", "a", "ab", "abc"])
def test_column_and_sentences_are_drawn_as_by_the_reference(part, empty):
    columns = {"a": "3.5 m! Two.\n U.S.A? x", "own": "own", "b": "b", "c": "c"}
    columns |= dict.fromkeys(empty, None)
    rule = {"part": part, "table": "", "weights": WEIGHTS}
    drawn = [chosen(columns, epoch=epoch, **rule) for epoch in range(300)]
    assert drawn == [by_reference(columns, part, epoch) for epoch in range(300)]
    assert drawn.count("b") == pytest.approx({"": 75, "a": 300}.get(empty, 0), abs=30)
    heaviest = {"": columns["a"], "a": "b"}.get(empty, "own")
    assert chosen(columns, choice="first", **rule) == heaviest


def test_usable_texts_lists_the_captions_that_a_rule_can_select():
    captions = [" a cat ", "", b"a dog", b"\xff", 3]
    assert usable_texts(captions, CaptionRule()) == ["a cat", "a dog"]
    assert usable_texts(captions, CaptionRule(choice="first", template="one {}")) == ["a cat"]
    assert usable_texts(captions[1:], CaptionRule(choice="first")) == []
    assert usable_texts("a cat", CaptionRule(choice="first")) == ["a cat"]
    assert usable_texts(None, CaptionRule(choice="first")) == []


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        (None, "missing_caption"),
        ([7], "missing_caption"),
        (" \n", "empty_caption"),
        ("\u200b\x07 \ufeff", "empty_caption"),
        (b"caf\xe9", "caption_encoding"),
        ("x" * (MAX_LENGTH + 1), "caption_too_long"),
    ],
)
def test_an_unusable_caption_raises_its_reason(captions, reason):
    with pytest.raises(BadSample) as unusable:
        chosen(captions)
    assert unusable.value.reason == reason
