"""Protocols: frozen, hashed, and refused when they contradict themselves."""

import dataclasses
from typing import Any

import pytest

from gestalt.evaluation.protocols import PROTOCOLS, TopDownProtocol, build_protocol

OTHERS: dict[str, Any] = {
    "name": "another",
    "version": 2,
    "input_size": 64,
    "multiple": 8,
    "interpolation": "bilinear",
    "templates": ("{}",),
    "ensembling": "raw_mean",
    "article": "letter",
    "lower_case": False,
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_row_is_found_under_its_own_name_and_cannot_change(name: str) -> None:
    protocol = build_protocol(name)
    assert protocol.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.input_size = 1  # type: ignore[misc]


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert TopDownProtocol(name="golden").digest() == "6eae9cde8c10f11e"


def test_every_field_has_a_say_in_the_digest() -> None:
    base = TopDownProtocol(name="base")
    digests = {base.digest()} | {dataclasses.replace(base, **{key: value}).digest() for key, value in OTHERS.items()}
    digests.add(dataclasses.replace(base, resize="short_side").digest())
    digests.add(dataclasses.replace(base, background="threshold", threshold=0.1).digest())
    digests.add(dataclasses.replace(base, background="threshold", threshold=0.2).digest())
    assert len(digests) == len(OTHERS) + 4
    assert {field.name for field in dataclasses.fields(base)} == {*OTHERS, "resize", "background", "threshold", "upsample"}


def test_none_leaves_the_protocols_own() -> None:
    assert build_protocol("whole_square", input_size=None, background=None, threshold=None) == PROTOCOLS["whole_square"]


@pytest.mark.parametrize(
    ("size", "target"), [((333, 500), (448, 672)), ((500, 333), (672, 448)), ((100, 100), (448, 448)), ((1, 2000), (448, 896_000))]
)
def test_short_side_keeps_the_aspect_to_the_nearest_multiple(size: tuple[int, int], target: tuple[int, int]) -> None:
    assert build_protocol("whole_short_side").target_size(*size) == target


def test_square_is_square() -> None:
    assert build_protocol("whole_square", input_size=64).target_size(33, 50) == (64, 64)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("whole_sqare", {}, "unknown protocol 'whole_sqare' .did you mean 'whole_square'"),
        ("whole_square", {"input_sise": 3}, "has no field 'input_sise' .did you mean 'input_size'"),
        ("whole_square", {"input_size": 0}, "input_size is 0"),
        ("whole_square", {"resize": "crop"}, "resize is 'crop', known: square, short_side"),
        ("whole_square", {"templates": ("a photo",)}, "'a photo' has no {}"),
        ("whole_square", {"templates": ()}, "no templates"),
        ("whole_square", {"threshold": 0.2}, "background=prompts with threshold=0.2"),
        ("whole_square", {"background": "threshold"}, "background=threshold with threshold=None"),
        ("whole_square", {"background": "threshold", "threshold": 20}, "a cosine lies in"),
    ],
)
def test_what_is_impossible_says_what_would_be_right(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_protocol(name, **changes)
