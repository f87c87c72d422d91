"""Classification, robustness, matching and groups by every method in a real Trainer: oracles,
chance, and records.
"""

import json
from typing import Any

import numpy as np
import pytest

from gestalt.measures.classification.callback import ClassificationScorer
from gestalt.measures.classification.protocol import PROTOCOLS as CLASSIFICATION_PROTOCOLS
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.callback import Grouping
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.matching.callback import Matching
from gestalt.measures.matching.protocol import PROTOCOLS as MATCHING_PROTOCOLS
from gestalt.measures.robustness.callback import Robustness
from gestalt.measures.robustness.protocol import PROTOCOLS as ROBUSTNESS_PROTOCOLS
from gestalt.results.intervals import contribution
from tests.gestalt.measures.stage import (
    LENGTH,
    Images,
    PaintedSet,
    Stub,
    collated,
    context,
    quiet,
    validate,
)
from tests.gestalt.painted import NAMES, Words

SIZE: dict[str, Any] = {"input_size": 16, "resize": "short_side", "multiple": 4}
BIRDS = Words(NAMES[1:3], prompts=((NAMES[1],), (NAMES[2],)))

pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


def classification(labels: Words = BIRDS, **changes: Any) -> ClassificationScorer:
    """Under test."""
    protocol = build_protocol("one_prompt", CLASSIFICATION_PROTOCOLS, **SIZE, **changes)
    return ClassificationScorer(context(labels=labels, protocol=protocol))


def robustness(name: str = "map_majority", *, third: tuple[str, ...] = (NAMES[0],)) -> Robustness:
    """Under test."""
    protocol = build_protocol(name, ROBUSTNESS_PROTOCOLS, **SIZE, third_class=third)
    return Robustness(context(labels=BIRDS, protocol=protocol))


def matching(**changes: Any) -> Matching:
    """Under test."""
    changes = {**SIZE, "upsample": "nearest", "fit_tokens": 9, **changes}
    protocol = build_protocol("clusters_square", MATCHING_PROTOCOLS, **changes)
    return Matching(context(images=PaintedSet(), protocol=protocol))


def scored(callback: Any, *, birds: bool = False, flaw: str = "") -> dict[str, Any]:
    """One evaluation on one rank, as its record, which has to be JSON."""
    validate(callback, dataset=PaintedSet(birds=birds), flaw=flaw)
    return json.loads(json.dumps(callback.result(), allow_nan=False))  # type: ignore[no-any-return]


def test_an_oracle_classifies_every_image_correctly():
    record = scored(classification(), birds=True)
    metrics = record["metrics"]
    assert metrics["painted/accuracy"] == 1
    assert metrics["painted/accuracy_chance"] == 1 / 2
    assert metrics["painted/accuracy_majority"] == 4 / 7
    assert "painted/top_5" not in metrics  # two classes
    assert record["counts"]["model"] == [[4, 3], [4, 3]]
    assert (record["images"], record["images_in_set"], record["measure"]) == (
        LENGTH,
        LENGTH,
        "classification",
    )
    assert record["protocol"]["name"] == "one_prompt"


def test_top_5_accuracy_is_reported_with_more_than_five_classes():
    # each name four times: its first is right, all of them tie
    many = Words(BIRDS.names * 4, prompts=BIRDS.prompts * 4)
    callback = classification(many)
    metrics = scored(callback, birds=True)["metrics"]
    assert metrics["painted/accuracy"] == 1
    assert metrics["painted/top_5"] == 1
    assert metrics["painted/top_5_chance"] == 5 / 8
    assert {key: values.tolist() for key, values in callback.per_image().items()} == {
        "painted/accuracy": [1.0] * LENGTH,
        "painted/top_5": [1.0] * LENGTH,
    }


@pytest.mark.parametrize("name", ["map_majority", "map_max_logit"])
def test_a_map_that_shows_the_bird_has_no_drop_in_other_places(name):
    callback = robustness(name, third=(NAMES[0], NAMES[3]))
    record = scored(callback, birds=True)
    metrics = record["metrics"]
    assert (
        metrics["painted/accuracy"]
        == metrics["painted/worst_group"]
        == metrics["painted/mean_group"]
        == 1
    )
    assert (
        metrics["painted/delta/apple"]
        == metrics["painted/delta/hour"]
        == metrics["painted/third_class"]
        == 0
    )
    assert record["total"] == [[2, 2], [2, 1]]
    assert record["right"] == record["total"]
    assert record["names_of_map"] == ["apple", "hour", "ground or unicorn"]
    arrays = {key.partition("/")[2]: array for key, array in callback.per_image().items()}
    assert arrays["group"].tolist() == [0, 1, 2, 3, 0, 1, 2]
    counted = [
        *(f"accuracy/{bird}_{kind}_place" for bird in BIRDS.names for kind in ("usual", "other")),
        *("accuracy", "worst_group", "mean_group", "third_class", "delta/apple", "delta/hour"),
    ]
    assert {f"painted/{what}" for what in counted} == set(metrics) - {
        "painted/accuracy_chance",
        "painted/accuracy_majority",
    }
    for what in counted:
        found = contribution(arrays, what, record)
        assert found.value == pytest.approx(metrics[f"painted/{what}"], abs=1e-6)


def test_a_model_that_predicts_from_the_background_has_a_drop_of_one():
    """Prompts of grounds in place of birds: what a spurious correlation teaches."""
    grounds = Words(("apple", "hour"), prompts=((NAMES[0],), (NAMES[3],)))
    protocol = build_protocol("map_majority", ROBUSTNESS_PROTOCOLS, **SIZE, third_class=())
    images = Images("painted", labels=grounds)
    images.train_groups = [[19, 1], [0, 5]]  # type: ignore[attr-defined]
    callback = Robustness(context(images=images, protocol=protocol))
    record = scored(callback, birds=True)
    metrics = record["metrics"]
    # right at the usual places, where nearly all training images are
    assert metrics["painted/adjusted_accuracy"] == 24 / 25
    assert metrics["painted/accuracy"] == 3 / 7
    assert record["train_groups"] == [[19, 1], [0, 5]]
    assert metrics["painted/delta/apple"] == metrics["painted/delta/hour"] == 1
    assert metrics["painted/accuracy/apple_usual_place"] == 1
    assert metrics["painted/accuracy/apple_other_place"] == metrics["painted/worst_group"] == 0


def test_clusters_of_an_oracle_are_its_classes():
    callback = matching()
    record = scored(callback)
    assert (
        record["metrics"]["painted/matched_miou"]
        == record["metrics"]["painted/matched_pixel_accuracy"]
        == 1
    )
    assert sorted(record["match"]) == [0, 1, 2, 3]
    assert 0 < record["metrics"]["painted/matched_miou_one_cluster"] < 0.2
    assert record["metrics"]["painted/matched_miou_patch_oracle"] > 0.8
    assert record["clusters"] == 4
    arrays = callback.per_image()
    assert arrays["painted/matched_miou"].shape == (LENGTH, 3, 4)
    np.testing.assert_array_equal(
        arrays["painted/matched_miou"].sum(axis=0), record["counts"]["model"]
    )
    assert arrays["painted/matched_confusion"].sum() == arrays["painted/matched_miou"][:, 2].sum()


def test_a_multiple_that_the_patches_do_not_divide_gives_way_to_them():
    assert scored(matching(multiple=6)) == scored(matching())


@pytest.mark.parametrize("make", [classification, robustness, matching])
def test_the_result_is_empty_before_an_evaluation(make):
    assert make().result() == {}
    assert make().per_image() == {}


@pytest.mark.parametrize(
    ("make", "lacks", "message"),
    [
        (classification, "class_label", "no 'class_label', classification cannot"),
        (robustness, "place", "no 'place', robustness cannot"),
    ],
)
def test_a_set_without_the_truth_is_an_error(make, lacks, message):
    batch = collated([PaintedSet()[0]])
    del batch[lacks]
    with pytest.raises(ValueError, match=f"image set painted: its batches have {message}"):
        make().on_validation_batch_end(quiet(devices=1), Stub(), None, batch, 0)


def everyone() -> list[Any]:
    """A callback of each measure, and of each way to group and to reduce."""
    groups = [name for name in GROUPING_PROTOCOLS if name.endswith("short_side")]
    callbacks: list[Any] = [classification(), matching()]
    callbacks += [robustness(name) for name in ROBUSTNESS_PROTOCOLS]
    size = {"input_size": 16, "multiple": 4}
    callbacks += [
        Grouping(context(pictures=0, protocol=build_protocol(name, GROUPING_PROTOCOLS, **size)))
        for name in groups
    ]
    return callbacks
