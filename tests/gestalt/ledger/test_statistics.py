"""Intervals, each against a slow loop or a published table."""

import math

import numpy as np
import pytest

from gestalt.ledger.statistics import (
    draws,
    mean_and_deviation,
    percentile_interval,
    pseudo_values,
    resampled,
    t_interval,
    t_quantile,
)

PUBLISHED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}  # two-sided 95 %, as in any table of Student's t


def counts(images, classes=4, seed=0):
    """Random pixel counts, some classes absent from some images, one from all."""
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.integers(0, 100, (images, classes)) * rng.integers(0, 2, (images, classes)) for _ in range(2))
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
    array, drawn = counts(11), draws(11, resamples=25)
    slow = [slow_miou(array, times) for times in drawn.tolist()]
    np.testing.assert_allclose(resampled(array, drawn), slow, rtol=1e-12)


def test_resampling_every_image_once_gives_the_miou_of_the_set():
    array = counts(7)
    assert resampled(array, np.ones((1, 7), dtype=np.int64))[0] == pytest.approx(slow_miou(array, [1] * 7), abs=1e-15)


def test_a_resampled_mean_leaves_out_images_without_a_value():
    values, drawn = np.array([0.5, np.nan, 1.0, 0.0]), draws(4, resamples=40)
    for mean, times in zip(resampled(values, drawn), drawn.tolist(), strict=True):
        taken = [value for value, often in zip(values.tolist(), times, strict=True) for _ in range(often) if not math.isnan(value)]
        assert mean == pytest.approx(sum(taken) / len(taken)) if taken else math.isnan(mean)


def test_counts_beyond_32_bits_are_summed_exactly():
    array = np.full((3, 3, 1), 2**40, dtype=np.int64)
    array[:, 0] -= 1
    drawn = np.array([[3, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(resampled(array, drawn), [(3 * 2**40 - 3) / (3 * 2**40 + 3)] * 2)


def test_draws_are_the_same_each_time_and_hold_as_many_images_as_the_set():
    drawn = draws(9, resamples=50)
    np.testing.assert_array_equal(drawn, draws(9, resamples=50))
    assert drawn.shape == (50, 9)
    assert set(drawn.sum(axis=1)) == {9}


def test_the_difference_of_equal_cells_is_zero_in_every_resample():
    array, drawn = counts(20), draws(20)
    assert percentile_interval(resampled(array, drawn) - resampled(array, drawn)) == (0, 0)


def test_the_percentile_interval_is_the_middle_95_percent():
    assert percentile_interval(np.random.default_rng(0).permutation(np.linspace(0, 1, 2001))) == pytest.approx((0.025, 0.975))


def test_the_jackknife_interval_of_miou_equals_a_slow_loop():
    array = counts(31)
    whole = slow_miou(array, [1] * 31)
    pseudo = [31 * whole - 30 * slow_miou(array, [image != left_out for image in range(31)]) for left_out in range(31)]
    mean, deviation = sum(pseudo) / 31, np.std(pseudo, ddof=1)
    half = PUBLISHED[30] * deviation / math.sqrt(31)
    np.testing.assert_allclose(pseudo_values(array), pseudo)
    assert t_interval(pseudo_values(array)) == pytest.approx((mean - half, mean + half), abs=1e-4)


def test_a_few_resamples_without_a_value_are_passed_over_and_many_leave_no_interval():
    scores = np.linspace(0, 1, 1000)
    few, many = scores.copy(), scores.copy()
    few[::25], many[::15] = np.nan, np.nan
    assert percentile_interval(few) == pytest.approx(percentile_interval(scores), abs=2e-3)
    assert percentile_interval(many) is None


def test_pairing_gives_a_narrow_interval_for_a_constant_difference():
    rng = np.random.default_rng(1)
    base = rng.random(200)
    drawn = draws(200)
    better = percentile_interval(resampled(base + 0.01, drawn) - resampled(base, drawn))
    assert better.low == pytest.approx(0.01)
    assert better.high == pytest.approx(0.01)
    alone = percentile_interval(resampled(base, drawn))
    assert alone.high - alone.low > 0.05


def test_the_deviation_is_the_sample_standard_deviation():
    assert mean_and_deviation([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    assert mean_and_deviation([3.0]) == (3.0, None)


@pytest.mark.parametrize(("freedom", "value"), PUBLISHED.items())
def test_the_t_quantile_equals_published_values(freedom, value):
    assert t_quantile(0.975, freedom=freedom) == pytest.approx(value, abs=5e-4)


def test_the_t_interval_of_five_seeds():
    low, high = t_interval([0.1, 0.2, 0.3, 0.4, 0.5])
    half = 2.7764451 * math.sqrt(0.025) / math.sqrt(5)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half))
    assert t_interval([0.1]) is None


def test_a_few_stray_pixels_of_an_absent_class_leave_the_pseudo_values_alone():
    array = counts(200, classes=21)
    before = pseudo_values(array)
    array[7, 1, -1] = 5  # predicted in one image, in the truth of none
    assert pseudo_values(array) * 21 / 20 == pytest.approx(before)
