"""Captions: which text of a sample is read, and what is none."""

import numpy as np
import pytest

from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.corpora.captions import (
    MAX_LENGTH,
    CaptionRule,
    choose_caption,
    usable_texts,
)


def chosen(captions, *, epoch=0, **rule):
    return choose_caption(captions, CaptionRule(**rule), seed=0, epoch=epoch, index=3)


def test_choice_first_takes_the_first_caption_and_random_choice_follows_the_epoch():
    several = ["one", "two", "three"]
    assert {chosen(several, choice="first", epoch=epoch) for epoch in range(20)} == {"one"}
    assert {chosen(several, epoch=epoch) for epoch in range(20)} == set(several)
    assert [chosen(several, epoch=epoch) for epoch in range(20)] == [
        chosen(several, epoch=epoch) for epoch in range(20)
    ]


def test_an_unusable_caption_among_several_is_not_drawn_and_the_other_draws_stay():
    whole, broken, epochs = ["one", "two", "three"], ["one", b"\xff", "three"], range(60)
    draws = [whole[int(np.random.default_rng([0, epoch, 3, 2]).random() * 3)] for epoch in epochs]
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
