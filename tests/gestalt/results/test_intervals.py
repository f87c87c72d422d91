"""Intervals, each against a slow loop or a published table: of seeds, of mIoU, of recall and of
groups; pairing, and refused inputs.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from gestalt.results.compare import compare
from gestalt.results.intervals import (
    Contribution,
    contribution,
    draws,
    percentile_interval,
    pseudo_values,
    resample,
    t_interval,
)
from gestalt.results.report import write_report
from gestalt.results.result import Result
from gestalt.results.scores import Score
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import leave_arrays

NAMES = ["land", "water"]
TRAIN = [[95, 5], [10, 40]]
ENTRY = {"names": NAMES, "train_groups": TRAIN}
# two-sided 95 % of 30 degrees of freedom, as in any table of Student's t
PUBLISHED = 2.042


def counts(images, classes=4, seed=0):
    """Random pixel counts, some classes absent from some images, one from all."""
    rng = np.random.default_rng(seed)
    truth, prediction = (
        rng.integers(0, 100, (images, classes)) * rng.integers(0, 2, (images, classes))
        for _ in range(2)
    )
    truth[:, -1] = prediction[:, -1] = 0
    return np.stack([np.minimum(truth, prediction) // 2, prediction, truth], axis=1)


def slow_miou(array, times):
    """One resample's mIoU, image by image and class by class."""
    ious = []
    for label in range(array.shape[2]):
        intersection = union = 0
        for index, often in enumerate(times):
            for _ in range(often):
                shared, predicted, truth = array[index, :, label].tolist()
                intersection += shared
                union += predicted + truth - shared
        if union:
            ious.append(intersection / union)
    return sum(ious) / len(ious) if ious else math.nan


def test_resampled_miou_equals_a_slow_loop():
    array, drawn = counts(11), draws(11)[:25]
    assert set(drawn.sum(axis=1)) == {11}
    np.testing.assert_array_equal(drawn, draws(11)[:25])
    slow = [slow_miou(array, times) for times in drawn.tolist()]
    np.testing.assert_allclose(resample(array, drawn), slow, rtol=1e-12)


def test_a_resampled_mean_leaves_out_images_without_a_value():
    values, drawn = np.array([0.5, np.nan, 1.0, 0.0]), draws(4)[:40]
    for mean, times in zip(resample(values, drawn), drawn.tolist(), strict=True):
        taken = [
            value
            for value, often in zip(values.tolist(), times, strict=True)
            for _ in range(often)
            if not math.isnan(value)
        ]
        assert mean == pytest.approx(sum(taken) / len(taken)) if taken else math.isnan(mean)


def test_counts_beyond_32_bits_are_summed_exactly():
    array = np.full((3, 3, 1), 2**40, dtype=np.int64)
    array[:, 0] -= 1
    drawn = np.array([[3, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(resample(array, drawn), [(3 * 2**40 - 3) / (3 * 2**40 + 3)] * 2)


def test_the_percentile_interval_is_the_middle_95_percent():
    assert percentile_interval(
        np.random.default_rng(0).permutation(np.linspace(0, 1, 2001))
    ) == pytest.approx((0.025, 0.975))


def test_the_jackknife_interval_of_miou_equals_a_slow_loop():
    array = counts(31)
    whole = slow_miou(array, [1] * 31)
    pseudo = [
        31 * whole - 30 * slow_miou(array, [image != left_out for image in range(31)])
        for left_out in range(31)
    ]
    mean, spread = sum(pseudo) / 31, np.std(pseudo, ddof=1)
    half = PUBLISHED * spread / math.sqrt(31)
    np.testing.assert_allclose(pseudo_values(array), pseudo)
    assert t_interval(pseudo_values(array)) == pytest.approx((mean - half, mean + half), abs=1e-4)


def test_a_miou_of_classes_in_a_single_image_has_no_interval():
    array = counts(30)[:, :, :3]
    array[1:, :, 0] = 0
    found = contribution({"counts": array}, "miou", {})
    assert found.value == pytest.approx(slow_miou(array, [1] * 30))
    assert found.interval(found.samples) is None
    assert found.reason == "1 of 3 classes are in fewer than two of the 30 images"


def test_an_interval_of_miou_is_cut_at_the_smallest_and_the_largest_value():
    spread = np.linspace(-0.5, 0.5, 40)
    found = Contribution(np.ones((40, 20)), 1.0, spread, jackknife=True)
    half = t_interval(spread.tolist()).high
    for middle, least, expected in (
        (1.0, 0.0, (1 - half, 1)),
        (0.0, 0.0, (0, half)),
        (0.0, -1.0, (-half, half)),
        (-1.0, -1.0, (-1, half - 1)),
        (-1.0, 0.0, None),
        (2.0, 0.0, None),
    ):
        assert found.interval(spread + middle, least=least) == (
            expected and pytest.approx(expected)
        )


def test_a_few_resamples_without_a_value_are_passed_over_and_many_leave_no_interval():
    scores = np.linspace(0, 1, 1000)
    few, many = scores.copy(), scores.copy()
    few[::25], many[::15] = np.nan, np.nan
    assert percentile_interval(few) == pytest.approx(percentile_interval(scores), abs=2e-3)
    assert percentile_interval(many) is None


def test_the_deviation_is_the_sample_standard_deviation():
    assert Score({0: 1.0, 1: 2.0, 2: 4.0}).deviation == pytest.approx(math.sqrt(7 / 3))
    assert Score({0: 3.0}).deviation is None


def test_a_few_stray_pixels_of_an_absent_class_leave_the_pseudo_values_alone():
    array = counts(200, classes=21)
    before = pseudo_values(array)
    array[7, 1, -1] = 5  # predicted in one image, in the truth of none
    assert pseudo_values(array) * 21 / 20 == pytest.approx(before)


def birds() -> dict[str, np.ndarray]:
    """Groups of unequal size, the last of four images, so that some resamples have none of it; and
    who is named right.
    """
    rng = np.random.default_rng(0)
    group = np.array([3, 3, 3, 3, *np.random.default_rng(9).integers(0, 3, 36)])
    right = rng.random(40) < np.array([0.9, 0.6, 0.4, 0.8])[group]
    return {"accuracy": right.astype(float), "group": group.astype(float)}


def slow_groups(arrays: dict[str, np.ndarray], times: list[int]) -> dict[str, float]:
    """Group metrics of one resample, computed image by image."""
    each: dict[tuple[int, int], list[float]] = {}
    for right, group, often in zip(
        arrays["accuracy"].tolist(), arrays["group"].tolist(), times, strict=True
    ):
        for _ in range(often):
            each.setdefault(divmod(int(group), 2), []).append(right)
    cells = {pair: sum(values) / len(values) for pair, values in each.items()}
    # else a group has no image in the resample
    whole = len(cells) == len(set(arrays["group"].tolist()))
    found = {
        "worst_group": min(cells.values()) if whole else math.nan,
        "mean_group": sum(cells.values()) / len(cells) if whole else math.nan,
    }
    for own, name in enumerate(NAMES):
        usual, other = cells.get((own, own), math.nan), cells.get((own, 1 - own), math.nan)
        found |= {
            f"accuracy/{name}_usual_place": usual,
            f"accuracy/{name}_other_place": usual - (usual - other),
        }
        found[f"delta/{name}"] = usual - other
    found["adjusted_accuracy"] = (
        sum(
            TRAIN[row][place] * cells.get((row, place), math.nan)
            for row in range(2)
            for place in range(2)
        )
        / 150
    )
    return found


def metrics(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the set itself."""
    return slow_groups(arrays, [1] * len(arrays["group"])) | {
        "accuracy": float(arrays["accuracy"].mean())
    }


def test_resampled_group_metrics_equal_a_slow_loop():
    arrays, drawn = birds(), draws(40)[:400]
    slow = [slow_groups(arrays, times) for times in drawn.tolist()]
    assert any(math.isnan(one["delta/water"]) for one in slow)
    assert any(math.isnan(one["worst_group"]) for one in slow)
    for what, value in metrics(arrays).items():
        found = contribution(arrays, what, ENTRY)
        assert found.value == pytest.approx(value)
        if what != "accuracy":
            np.testing.assert_allclose(found.samples[:400], [one[what] for one in slow], atol=1e-12)


def hits() -> dict[str, np.ndarray]:
    """Three images with captions and one without."""
    return {
        "image_to_text_recall_at_5": np.array([[1, 1], [0, 1], [0, 0], [1, 1]]),
        "text_to_image_recall_at_5": np.array([[3, 5], [1, 6], [0, 0], [5, 5]]),
    }


def test_recall_is_hits_by_queries_of_the_drawn_images_and_their_mean_over_both_ways():
    arrays, drawn = hits(), draws(4)[:40]
    values = {"image_to_text_recall_at_5": 2 / 3, "text_to_image_recall_at_5": 9 / 16}
    slow = {}
    for what, value in values.items():
        sums = [
            sum(often * arrays[what][index] for index, often in enumerate(times))
            for times in drawn.tolist()
        ]
        slow[what] = [one[0] / one[1] if one[1] else math.nan for one in sums]
        found = contribution(arrays, what, {})
        assert found.value == pytest.approx(value)
        np.testing.assert_allclose(found.samples[:40], slow[what])
    both = contribution(arrays, "recall_at_5", {})
    assert both.value == pytest.approx((2 / 3 + 9 / 16) / 2)
    np.testing.assert_allclose(both.samples[:40], np.mean(list(slow.values()), axis=0))
    assert contribution(arrays, "recall_at_1", {}) is None


def result(folder: Path, arrays: dict[str, np.ndarray], *, label: str) -> Result:
    """Write a result with its arrays per image, in the format of a run."""
    said = {f"birds/{what}": value for what, value in metrics(arrays).items()}
    group = arrays["group"].astype(int)
    shares = [
        np.bincount(group, weights, minlength=4).astype(int).tolist()
        for weights in (arrays["accuracy"], None)
    ]
    entry = {
        "set": "birds",
        "measure": "robustness",
        "metrics": said,
        "metric_keys": list(said),
        "images": 40,
        **ENTRY,
        "protocol": {"name": "p", "digest": "d"},
        "counts": {"model": shares},
        "counts_rows": ["right", "truth"],
    }
    record = {
        "metrics": said,
        "benchmarks": [entry],
        "provenance": {"commit": "c0ffee"},
        "config": {},
    }
    (folder / label / "per_image").mkdir(parents=True)
    leave_arrays(folder / label / "per_image", record, "birds", **arrays)
    return Result(label, folder / label / "result.json", record)


def test_adjusted_accuracy_of_other_training_groups_and_values_of_other_images_are_not_compared(
    tmp_path,
):
    both = [result(tmp_path, birds(), label=label) for label in "ab"]
    assert both[1].contribution("birds/adjusted_accuracy") is not None
    both[1].record["benchmarks"][0]["train_groups"] = [[190, 10], [20, 80]]
    with pytest.raises(
        ConfigError,
        match=r"train_groups is \[\[95, 5\], \[10, 40\]\] vs \[\[190, 10\], \[20, 80\]\]",
    ):
        compare(both, metrics=["adjusted_accuracy"])
    assert len(compare(both, metrics=["accuracy"]).columns) == 1
    both[1].record["benchmarks"][0]["image_names"] = "the hash of other names"
    with pytest.raises(ConfigError, match="birds/accuracy: the images of b are not those of a"):
        compare(both, metrics=["accuracy"])


def test_the_report_shows_the_intervals_of_robustness(tmp_path):
    one = result(tmp_path, birds(), label="a")
    one.record.update(experiment="e", overrides=[], image_init={"requested": "x", "resolved": "x"})
    one.record["provenance"].update(packages={}, machine={"accelerator": "none"})
    write_report([one], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    low, high = one.interval("birds/accuracy/water_other_place")
    assert f">[{low:.3f}, {high:.3f}]</td>" in page
