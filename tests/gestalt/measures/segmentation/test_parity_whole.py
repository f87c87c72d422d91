"""Protocols on whole images, and the resizing of all protocols, equal a slow reference; every
protocol has a reference.
"""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.data_modules.labels.class_tables import read_tables
from gestalt.data_modules.labels.predicted_maps import nearest_pixels
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import resize
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.vocabularies import name_classes
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from tests.gestalt.measures.segmentation.reference import (
    FIRST_VARIANTS,
    RULES,
    Rules,
    predict,
    target,
)
from tests.gestalt.measures.segmentation.reference_whole import (
    VOC_60,
    WHOLE,
    Whole,
    cut_middle,
    nearest_label,
    prompt,
    shrink_or_grow,
)
from tests.gestalt.measures.segmentation.test_parity import (
    RandomModel,
    assert_equal_but_ties,
    noise,
)
from tests.gestalt.painted import Words

WORDS = Words(
    names=("background", "apple", "clock", "unicorn", "robin", "umbrella", "bus"),
    prompts=(
        ("sky", "wall"),
        ("apple",),
        ("hour hand", "clock"),
        ("unicorn",),
        ("European robin",),
        ("umbrella",),
        ("bus",),
    ),
    background=0,
)
SIZES = [(37, 53), (61, 40), (251, 333), (501, 333)]
ALL = {**RULES, **WHOLE, **{family: RULES[name] for family, name in FIRST_VARIANTS.items()}}


def test_every_registered_protocol_has_a_reference():
    assert set(ALL) == set(PRESETS)


def patches(height: int, width: int, *, seed: int) -> Tensor:
    """Noise in cells of an eighth of the short side and finer noise on it, so that patches of the
    tower differ at any size.
    """
    cell = max(1, min(height, width) // 8)
    coarse = (
        noise(-(-height // cell), -(-width // cell), seed=seed)
        .repeat_interleave(cell, 1)
        .repeat_interleave(cell, 2)
    )
    return coarse[:, :height, :width] // 2 + noise(height, width, seed=seed + 1) // 2


def slow_pixels(image: Tensor, name: str, rules: Whole | None = None) -> np.ndarray:
    """The resized image in float64, before it is rounded."""
    pixels = image.numpy()
    if name not in WHOLE:
        how = "bilinear" if name.startswith(("mmseg", "sclip", "clearclip")) else "bicubic"
        return shrink_or_grow(pixels, target(*pixels.shape[1:], ALL[name]), how)
    return whole_pixels(image, rules or WHOLE[name])


def whole_pixels(image: Tensor, rules: Whole) -> np.ndarray:
    wide = shrink_or_grow(image.numpy(), rules.canvas_size(*image.shape[1:]), "bicubic")
    return cut_middle(wide, rules.side) if rules.shape == "crop" else wide


def assert_seen(canvas: Tensor, image: Tensor, rules: Whole) -> None:
    """The tower's input for a whole image equals its slow resize."""
    assert_rounded(canvas, whole_pixels(image, rules))


def assert_rounded(canvas: Tensor, exact: np.ndarray) -> None:
    """Grey levels are the exact ones, rounded; only what float32 cannot tell from a half may go to
    either side.
    """
    assert canvas.shape == exact.shape
    away = np.abs(canvas.numpy().astype(np.float64) - np.clip(exact, 0, 255))
    assert away.max() <= 0.51
    assert (away > 0.5).mean() < 1e-3


@pytest.mark.parametrize("size", [(37, 53), (501, 333)], ids=str)
@pytest.mark.parametrize("name", PRESETS)
def test_resized_images_match_the_slow_reference(name, size):
    image = noise(*size, seed=7)
    assert_rounded(resize(image, protocol=top_down_protocol(name)), slow_pixels(image, name))


def assert_same(
    protocol: TopDownProtocol,
    rules: Whole,
    *,
    size: tuple[int, int],
    phrases: list[tuple[str, int]],
    labels: Words | LabelSet = WORDS,
    bound: float | None = None,
):
    """``phrases`` with their classes are what competes, in any order; a cosine below ``bound`` is
    background.
    """
    model, image = RandomModel(), patches(*size, seed=11)
    canvas = resize(image, protocol=protocol)
    assert_rounded(canvas, slow_pixels(image, protocol.name, rules))
    shown = (rules.side, rules.side) if rules.squashed else size
    prompts = class_embeddings(model, labels, protocol=protocol)
    found = top_down(model, [image], prompts=prompts, protocol=protocol, sizes=[shown])[
        0
    ].prediction.numpy()
    text = (
        model.embed_text([prompt(phrase, rules) for phrase, _ in phrases])
        .numpy()
        .astype(np.float64)
    )
    classes = np.array([index for _, index in phrases])
    final = "argmax" if bound is None else "constant"
    whole = Rules(rules.side, None, window=None, stride=None, final=final, bound=bound)
    assert_equal_but_ties(found, *predict(model, canvas, shown, text, classes, whole))


def pairs(*, silent: bool = False) -> list[tuple[str, int]]:
    return [
        (phrase, index)
        for index, phrases in enumerate(WORDS.prompts)
        for phrase in phrases
        if index or not silent
    ]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", WHOLE)
def test_a_protocol_matches_the_slow_reference(name, size):
    protocol = top_down_protocol(name, vocabulary="label_set")
    assert_same(protocol, WHOLE[name], size=size, phrases=pairs())


@pytest.mark.parametrize("name", WHOLE)
def test_a_cosine_below_the_bound_is_background_as_in_the_slow_reference(name):
    protocol = top_down_protocol(
        name, vocabulary="label_set", background="threshold", threshold=0.6
    )
    assert_same(protocol, WHOLE[name], size=(37, 53), phrases=pairs(silent=True), bound=0.6)


def test_protocols_without_an_input_size_use_the_tower_size_as_in_the_slow_reference():
    for name in ("whole_square", "whole_short_side"):
        protocol = top_down_protocol(name, tower_size=96)
        rules = dataclasses.replace(WHOLE[name], side=96)
        assert_same(protocol, rules, size=(251, 333), phrases=pairs())


@pytest.mark.parametrize("size", [(333, 500), (501, 333)], ids=str)
def test_clippy_repo_on_voc_with_60_words_matches_the_slow_reference(size):
    protocol = top_down_protocol("clippy-repo", label_set="voc21")
    labels = name_classes(
        read_tables("pascal_voc")["voc21"].labels, label_set="voc21", vocabulary=protocol.vocabulary
    )
    words = [(word, number if number < 21 else 0) for number, word in enumerate(VOC_60)]
    assert len(words) == 60
    assert_same(protocol, WHOLE["clippy-repo"], size=size, labels=labels, phrases=words)


def test_clippy_repo_with_fixed_defects_matches_the_slow_reference():
    protocol = top_down_protocol("clippy-repo", vocabulary="label_set", defects="fixed")
    rules = dataclasses.replace(WHOLE["clippy-repo"], shape="square", squashed=False)
    assert_same(protocol, rules, size=(251, 333), phrases=pairs())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_squashed_label_equals_the_slow_reference_and_pillows_palette_resize(size):
    label = noise(*size, seed=5)[0]
    found = nearest_pixels(label, size=(224, 224)).numpy()
    assert (found == nearest_label(label.numpy(), 224)).all()
    palette = Image.fromarray(label.numpy())
    palette.putpalette([channel for grey in range(256) for channel in (grey, grey, grey)])
    assert palette.mode == "P"
    # whatever filter is asked for
    assert (found == np.array(palette.resize((224, 224), Image.Resampling.BILINEAR))).all()
