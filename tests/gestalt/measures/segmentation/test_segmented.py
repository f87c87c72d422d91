"""Labels that the text tower reads as one, or cuts, are named in a warning, and the first of equal
ones wins.
"""

import warnings

import pytest
import torch

from gestalt.measures.segmentation.presets import PRESETS
from gestalt.measures.segmentation.segmented import _first_similar, label_prompts, segment_images
from gestalt.support.faults import Caveat
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_model import tiny

PROTOCOL = PRESETS["whole_square"].protocol
LONG = " ".join(["dog"] * 20)


def said(labels: list[str]) -> list[str]:
    """The warnings about labels."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        label_prompts(tiny()[0], labels, protocol=PROTOCOL)
    assert all(warning.category is Caveat for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("labels", "sets"),
    [
        (["dog", "cat", "grass"], []),
        (["dog", "cat", "Dog"], ['"dog", "Dog"']),
        (
            ["a  cat", "dog", "DOG", "a cat", "Dog", "bird"],
            ['"a cat", "a cat"', '"dog", "DOG", "Dog"'],
        ),
    ],
)
def test_labels_of_equal_tokens_are_named(labels, sets):
    assert said(labels) == [
        f"the text tower cannot tell the labels {names} apart: the first has the pixels of all"
        for names in sets
    ]


def test_labels_that_are_cut_are_named_in_short():
    (text,) = said(["cat", LONG])
    assert (
        text
        == f'the text tower reads 16 tokens and cuts the prompts of the labels "{LONG[:55]} ..."'
    )


def test_labels_that_differ_after_the_cut_are_one():
    assert len(said([f"{LONG} cat", f"{LONG} bird", "cat"])) == 2


@pytest.mark.filterwarnings("ignore::gestalt.support.faults.Caveat")
@pytest.mark.parametrize("name", ["whole_square", "mmseg-448"])
def test_of_labels_of_equal_tokens_the_first_has_all_pixels(name):
    model, image = tiny()[0], random_pixels(3, 64, 64)
    labels = ["Dog", "grass", "dog", "bird", "DOG", "sky"]
    (result,) = segment_images(model, [image], labels=labels, protocol=PRESETS[name].protocol)
    assert result.areas["dog"] == result.areas["DOG"] == 0
    assert result.areas["Dog"] > 0
    assert torch.equal(result.similarity[0], result.similarity[2])


@pytest.mark.filterwarnings("ignore::gestalt.support.faults.Caveat")
def test_labels_of_equal_tokens_have_the_scores_of_the_first_to_the_last_bit():
    prompts = label_prompts(tiny()[0], ["Dog", "grass", "dog"], protocol=PROTOCOL)
    assert prompts.tie(torch.tensor([0.1, 0.2, 0.3]), dim=0).tolist() == pytest.approx(
        [0.1, 0.2, 0.1]
    )


def test_labels_that_are_near_are_not_one_where_torch_computes_in_low_precision():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.03]]), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert _first_similar(vectors).tolist() == [0, 1]
