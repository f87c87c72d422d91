"""Scenes: the same anywhere, with masks that are true to the pixels, and combinations that training
never shows.
"""

import hashlib
from collections import Counter

import numpy as np
import pytest

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.scenes.composition import RASTER, SceneMaker
from gestalt.data_modules.scenes.recipes import RECIPES
from tests.data_modules.files import opened_set


@pytest.fixture(scope="module", params=["prototype", "scenes_v1"])
def maker(request):
    return SceneMaker(RECIPES[request.param])


def combinations(maker, layout):
    """Every unordered pair of classes in a scene and every (class, background), worked out without
    the tables under test.
    """
    kinds = [placed.kind for placed in layout.objects]
    pairs = {
        (i, j)
        for i in kinds
        for j in kinds
        if (i + j) % maker.recipe.pair_period == maker.recipe.pair_rest
    }
    grounds = {
        (i, layout.background)
        for i in kinds
        if i % len(maker.recipe.backgrounds) == layout.background
    }
    return pairs, grounds


def test_a_scene_depends_on_seed_and_index_alone(maker):
    other = SceneMaker(maker.recipe)
    for index in (5, 3, 5):  # another order, and a maker with cold caches
        first, second = (
            maker.plan(index, seed=1, split="train"),
            other.plan(index, seed=1, split="train"),
        )
        assert first == second
        np.testing.assert_array_equal(maker.image(first, size=64), other.image(second, size=64))


def test_training_never_shows_a_held_out_combination(maker):
    for index in range(400):
        assert combinations(maker, maker.plan(index, seed=3, split="train")) == (set(), set())


@pytest.mark.parametrize("split", ["val", "tune"])
def test_every_validation_scene_shows_a_held_out_combination(maker, split):
    pairs, grounds, shown = set(), set(), Counter()
    for index in range(maker.recipe.validation_scenes):
        layout = maker.plan(index, seed=maker.recipe.validation_seed, split=split)
        of_classes, with_background = combinations(maker, layout)
        assert of_classes | with_background
        pairs |= of_classes
        grounds |= with_background
        shown.update({placed.kind for placed in layout.objects})
    assert len(pairs) > len(maker.recipe.classes)
    assert len(grounds) > 0.9 * len(maker.recipe.classes)
    assert set(shown) == set(range(len(maker.recipe.classes)))


def test_masks_agree_with_the_alpha_of_what_is_pasted(maker):
    size = 96
    for index in range(25):
        layout = maker.plan(index, seed=4, split="train")
        scene, bare = (
            maker.scene(layout, size=size),
            maker.image(layout._replace(objects=()), size=size),
        )
        touched, label, instance = (np.zeros((size, size), dtype=int) for _ in range(3))
        colour = np.zeros((size, size, 3), dtype=int)
        opaque = np.zeros((size, size), dtype=bool)
        for number, placed in enumerate(layout.objects, start=1):
            (paint, through, mask), rows, columns = maker.cut_out(placed, size=size)
            np.testing.assert_array_equal(mask, through[..., 0] <= 127)
            touched[rows, columns] += through[..., 0] < 255
            label[rows, columns][mask], instance[rows, columns][mask] = placed.kind + 1, number
            solid = through[..., 0] == 0
            opaque[rows, columns] &= through[..., 0] == 255
            opaque[rows, columns] |= solid
            colour[rows, columns][solid] = paint[solid]
        np.testing.assert_array_equal(scene.label, label)
        np.testing.assert_array_equal(scene.instance, instance)
        np.testing.assert_array_equal(scene.image[:, touched == 0], bare[:, touched == 0])
        np.testing.assert_array_equal(scene.image.transpose(1, 2, 0)[opaque], colour[opaque])
        assert opaque.any()


def test_no_object_is_hidden_beyond_the_recipe(maker):
    # judged on the raster; elsewhere edges round otherwise
    for size, tolerance in ((RASTER, 0), (maker.recipe.native_size, 0.1)):
        for index in range(60):
            layout = maker.plan(index, seed=5, split="train")
            seen = np.bincount(
                maker.scene(layout, size=size).instance.ravel(), minlength=len(layout.objects) + 1
            )
            for number, placed in enumerate(layout.objects, start=1):
                assert (
                    seen[number]
                    >= (maker.recipe.min_visible - tolerance)
                    * maker.cut_out(placed, size=size)[0].mask.sum()
                )


def test_a_scene_is_the_same_at_any_size(maker):
    agreement, difference = [], []
    for index in range(30):
        layout = maker.plan(index, seed=7, split="train")
        small, large = maker.scene(layout, size=64), maker.scene(layout, size=192)
        assert large.image.shape == (3, 192, 192)
        agreement.append((small.label == large.label[1::3, 1::3]).mean())
        shrunk = large.image.reshape(3, 64, 3, 64, 3).mean(axis=(2, 4))
        difference.append(np.abs(shrunk - small.image).mean())
    assert np.mean(agreement) > 0.97
    assert np.mean(difference) < 12  # two unlike scenes differ by about 80


@pytest.mark.parametrize(
    ("name", "digest"), [("prototype", "6f7d00456bd4dd2b"), ("scenes_v1", "fa5149212e56af57")]
)
def test_the_validation_scenes_of_a_benchmark_are_frozen(name, digest):
    maker = SceneMaker(RECIPES[name])
    layouts = [
        maker.plan(index, seed=maker.recipe.validation_seed, split="val") for index in range(20)
    ]
    pictures = [name for noun in maker.recipe.classes for name in noun.pictures]
    numbered = [
        layout._replace(
            objects=tuple(
                placed._replace(picture=pictures.index(placed.picture)) for placed in layout.objects
            )
        )
        for layout in layouts
    ]
    words = [
        maker.caption(layout, seed=maker.recipe.validation_seed, epoch=0, index=index)
        for index, layout in enumerate(layouts)
    ]
    assert hashlib.sha256(repr((numbered, words)).encode()).hexdigest()[:16] == digest


def test_the_image_set_has_images_labels_objects_and_captions_of_the_recipe():
    images = open_image_set(
        "scenes", root=None, split=None, limit=None, subset=False, recipe="prototype"
    )
    sample = images.sample(2)
    assert len(images) == images.official_length == RECIPES["prototype"].validation_scenes
    assert sample["image"].shape == (3, 64, 64)
    assert sample["labels"]["scenes"].shape == sample["instance"].shape == (64, 64)
    assert sample["instance"].gt(0).equal(sample["labels"]["scenes"].gt(0))
    assert len(sample["captions"]) == 5
    assert images.label_sets["scenes"].names[0] == "background"
    assert images.label_sets["scenes"].prompts[0] == tuple(
        backdrop.name for backdrop in RECIPES["prototype"].backgrounds
    )
    assert images.label_sets["scenes"].names[1:] == tuple(
        noun.name for noun in RECIPES["prototype"].classes
    )


def test_the_tuning_split_shares_no_scene_with_the_reported_one():
    sets = [
        opened_set("scenes", None, split=split, recipe="prototype") for split in ("val", "tune")
    ]
    layouts = {images.layout(index) for images in sets for index in range(len(images))}
    assert len(layouts) == sum(map(len, sets))
