"""Captions of scenes: true, grammatical, and as incomplete as real ones."""

import re
from collections import Counter

import pytest

from gestalt.data_modules.scenes.composition import SceneMaker, with_article
from gestalt.data_modules.scenes.recipes import RECIPES, plural_of

NUMBERS = {"two": 2, "three": 3, "four": 4}


@pytest.fixture(scope="module", params=list(RECIPES))
def captions(request):
    """(maker, [(layout, caption)]) over many scenes and two epochs."""
    maker = SceneMaker(RECIPES[request.param])
    layouts = [maker.plan(index, seed=1, split="train") for index in range(250)]
    return maker, [
        (layout, maker.caption(layout, seed=1, epoch=epoch, index=index))
        for epoch in (0, 1)
        for index, layout in enumerate(layouts)
    ]


def mentioned(maker, caption):
    """Class numbers whose noun stands in the caption, and background numbers whose name does."""
    kinds = {
        k
        for k, noun in enumerate(maker.recipe.classes)
        if re.search(rf"\b({noun.name}|{noun.plural})\b", caption)
    }
    grounds = {
        k
        for k, backdrop in enumerate(maker.recipe.backgrounds)
        if re.search(rf"\b{backdrop.name}\b", caption)
    }
    return kinds, grounds


def test_captions_name_only_objects_and_backgrounds_in_the_scene(captions):
    maker, pairs = captions
    for layout, caption in pairs:
        kinds, grounds = mentioned(maker, caption)
        assert kinds <= {placed.kind for placed in layout.objects}, caption
        assert grounds <= {layout.background}, caption
        assert kinds | grounds, caption


def test_captions_count_right(captions):
    maker, pairs = captions
    counted = 0
    for layout, caption in pairs:
        shown = Counter(placed.kind for placed in layout.objects)
        for kind in mentioned(maker, caption)[0]:
            noun = maker.recipe.classes[kind]
            if number := re.search(rf"\b({'|'.join(NUMBERS)}) {noun.plural}\b", caption):
                assert NUMBERS[number.group(1)] == shown[kind], caption
                counted += 1
            elif re.search(rf"\ban? {noun.name}\b", caption):
                assert shown[kind] == 1, caption
    assert counted > 20


def test_a_caption_depends_on_seed_epoch_and_index_alone(captions):
    maker, _ = captions
    layout = maker.plan(0, seed=1, split="train")
    second = SceneMaker(maker.recipe)
    for epoch in (3, 1, 3):
        assert maker.caption(layout, seed=1, epoch=epoch, index=0) == second.caption(
            layout, seed=1, epoch=epoch, index=0
        )
    for word in ("seed", "epoch", "index"):
        arguments = ({"seed": 1, "epoch": 0, "index": 0} | {word: number} for number in range(20))
        assert len({maker.caption(layout, **chosen) for chosen in arguments}) > 1, word


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("apple", "an apple"),
        ("dog", "a dog"),
        ("unicorn", "a unicorn"),
        ("european bear", "a european bear"),
    ],
)
def test_a_or_an_follows_the_sound(noun, phrase):
    assert with_article(noun) == phrase


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("fireman", "firemen"),
        ("sheep", "sheep"),
    ],
)
def test_plurals_are_english(noun, plural):
    assert plural_of(noun) == plural
