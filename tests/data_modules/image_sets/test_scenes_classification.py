"""Scenes for classification, and Waterbirds' twin: their balance, the intended correlation, and the
splits that do not change.
"""

from collections import Counter

import pytest

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.scenes.composition import NAMES, SceneMaker, find_twins
from gestalt.data_modules.scenes.recipes import RECIPES, find_recipe
from gestalt.data_modules.sources import open_source
from tests.data_modules.scenes.test_cutouts import draw

SPURIOUS = [name for name in RECIPES if name.endswith("_spurious")]
KINDS = {"scenes_classification": 307, "scenes_waterbirds": 604}


def open_kind(name, *, recipe="prototype", limit=None, split=None):
    return open_image_set(
        name, root=None, split=split, limit=limit, subset=limit is not None, recipe=recipe
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_number_of_scenes_is_as_stated_and_not_divisible_by_three_five_or_eight_ranks(name):
    assert len(open_kind(name)) == KINDS[name]
    assert all(KINDS[name] % ranks for ranks in (3, 5, 8))
    with pytest.raises(ValueError, match="known: val, tune"):
        open_kind(name, split="train")


def test_every_class_occurs_and_always_on_its_held_out_background():
    images = open_kind("scenes_classification")
    recipe = RECIPES["prototype"]
    (labels,) = images.label_sets.values()
    assert labels.names == tuple(noun.name for noun in recipe.classes)
    seen = Counter()
    for index in range(len(images)):
        layout = images.layout(index)
        (placed,) = layout.objects
        assert images.maker.held_backgrounds[placed.kind, layout.background]
        seen[placed.kind] += 1
    assert set(seen) == set(range(len(labels.names)))
    for index in range(20):
        assert images.sample(index)["class_label"] == images.layout(index).objects[0].kind


def test_the_twins_test_set_is_balanced_over_the_four_groups():
    images = open_kind("scenes_waterbirds")
    samples = [images.sample(index) for index in range(len(images))]
    assert Counter((sample["class_label"], sample["place"]) for sample in samples) == {
        (y, place): 151 for y in (0, 1) for place in (0, 1)
    }


def test_the_twins_test_set_is_the_same_for_spurious_and_plain_recipes():
    for recipe in SPURIOUS:
        spurious, plain = (
            open_kind("scenes_waterbirds", limit=6, recipe=name)
            for name in (recipe, recipe.removesuffix("_spurious"))
        )
        assert all(
            spurious.sample(index)["image"].equal(plain.sample(index)["image"])
            for index in range(6)
        )


@pytest.mark.parametrize(("name", "correlation"), [(SPURIOUS[0], 0.6), (SPURIOUS[1], None)])
def test_training_shows_twins_alone_and_usually_on_their_background(name, correlation):
    source = open_source(
        "scenes", root=None, size=16, seed=0, limit=None, recipe=name, correlation=correlation
    )
    maker = source.maker
    twins, backgrounds = find_twins(maker.recipe)
    groups = Counter()
    for index in range(800):
        layout = maker.plan(index, seed=0, split="train")
        kinds = [placed.kind for placed in layout.objects]
        if set(kinds) & set(twins):
            assert len(kinds) == 1
            groups[twins.index(kinds[0]), backgrounds.index(layout.background)] += 1
    total = sum(groups.values())
    assert total / 800 == pytest.approx(0.3, abs=0.05)
    assert (groups[0, 0] + groups[1, 1]) / total == pytest.approx(correlation or 0.95, abs=0.05)
    assert (groups[0, 0] + groups[0, 1]) / total == pytest.approx(0.5, abs=0.05)
    assert min(groups[0, 1], groups[1, 0]) > 0


@pytest.mark.parametrize("name", SPURIOUS)
def test_all_other_scenes_of_a_spurious_recipe_obey_the_same_rules(name):
    plain, spurious = (
        SceneMaker(find_recipe(made)) for made in (name.removesuffix("_spurious"), name)
    )
    assert plain.plan(5, seed=3, split="val") == spurious.plan(5, seed=3, split="val")
    twins, _ = find_twins(spurious.recipe)
    for index in range(120):
        layout = spurious.plan(index, seed=0, split="train")
        kinds = [placed.kind for placed in layout.objects]
        assert set(kinds) & set(twins) or not spurious.shows_held_out(
            kinds, background=layout.background
        )
    assert plain.recipe.digest() != spurious.recipe.digest()


def test_a_folder_without_the_two_animals_is_refused(tmp_path):
    for name in ("apple", "cat", "hat"):
        draw(tmp_path / f"{name}.png", caption=f"A {name}.", colour=(200, 30, 30))
    with pytest.raises(
        ValueError, match=f"has no class '{NAMES[0]}', which scenes_waterbirds needs; it has apple"
    ):
        open_image_set("scenes_waterbirds", root=str(tmp_path), split=None, limit=4, subset=True)
