"""Intervals: over seeds by Student's t; over images by the jackknife for mIoU, else by the bootstrap.  R resamples, N images, C classes.

Over seeds they show how far another training could differ; over images, how far another sample of test images could.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.evaluation.confusion import divide_or_nan, iou_of, mean_without_nan

RESAMPLES = 2000
SEED = 0
"""Seed of the draws: the same images are drawn for every result, which pairs the bootstrap."""

LEVEL = 0.95
WITHOUT = 0.05
"""Largest share of resamples that lack a group, or of classes in fewer than two images; above it there is no interval."""

LEAST_IMAGES = 30
"""Least N of an interval of mIoU."""

EXACT = 2**53
"""Integers below it are exact in float64, so sums of pixel counts can use the fast matrix product."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (divisor S - 1), None for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of a normal sample; None for a single value."""
    mean, deviation = mean_and_deviation(values)
    if deviation is None:
        return None
    half = t_quantile(0.5 + LEVEL / 2, freedom=len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def t_quantile(probability: float, *, freedom: int) -> float:
    """Return the quantile of Student's distribution for a probability in (0, 1)."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def draws(images: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """Return how often each image is in each resample, (R, N); a pure function of its arguments."""
    drawn: NDArray[np.int64] = np.random.default_rng([seed, images]).multinomial(images, [1 / images] * images, size=resamples)
    return drawn


def resampled_sums(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum integer counts (N, ...) over the images of each resample.  Returns (R, ...)."""
    assert int(counts.sum(axis=0).max(initial=0)) * int(drawn.max(initial=0)) < EXACT
    totals = drawn.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)
    return totals.astype(np.int64).reshape(len(drawn), *counts.shape[1:])


def resampled_miou(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mIoU of each resample, (R,), from summed integer counts (N, 3, C); nan without any class."""
    return mean_without_nan(iou_of(resampled_sums(counts, drawn)), axis=-1)


def resampled_share(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of hits among the queries of each resample, (R,), from sums of both (N, 2); nan without a query."""
    return divide_or_nan(*resampled_sums(counts, drawn).T)


def resampled_mean(values: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean over the images with a value in each resample, (R,); nan without any."""
    present = ~np.isnan(values)
    return divide_or_nan(drawn[:, present] @ values[present], drawn[:, present].sum(axis=1))


def resampled(array: NDArray[np.generic], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores of all resamples, (R,), from counts (N, 3, C), hits and queries (N, 2), or values (N,)."""
    if array.ndim > 1:
        return (resampled_miou if array.ndim == 3 else resampled_share)(array.astype(np.int64), drawn)
    return resampled_mean(array.astype(np.float64), drawn)


def pseudo_values(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the pseudo-values of the mIoU, (N,), from counts (N, 3, C): N times the mIoU, less N - 1 times that without the image.

    Their mean is the mIoU without its bias of first order.  A class that only one image has keeps its IoU without that image, so that a few
    stray pixels do not change the number of classes.  Source: Tukey, Bias and confidence in not-quite large samples, 1958.
    """
    total = counts.sum(axis=0)
    whole, without = iou_of(total), iou_of(total - counts)
    without = np.where(np.isnan(without), whole, without)
    pseudo: NDArray[np.float64] = len(counts) * mean_without_nan(whole, axis=-1) - (len(counts) - 1) * mean_without_nan(without, axis=-1)
    return pseudo


def too_few_for_miou(truth: NDArray[np.int64]) -> str:
    """Return the reason if images with these pixels of each class, (N, C), are too few for an interval of mIoU; else nothing.

    A class that is absent, or in a single image, shows nothing of how its IoU would differ in other images.
    """
    rare = int(((truth > 0).sum(axis=0) < 2).sum())
    if rare > WITHOUT * truth.shape[1]:
        return f"{rare} of {truth.shape[1]} classes are in fewer than two of the {len(truth)} images"
    return f"{len(truth)} images are fewer than {LEAST_IMAGES}" if len(truth) < LEAST_IMAGES else ""


def percentile_interval(scores: NDArray[np.float64]) -> Interval | None:
    """Return the middle 95 % of the resamples' scores; None if a share above ``WITHOUT`` is nan."""
    if np.isnan(scores).mean() > WITHOUT:
        return None
    low, high = np.nanquantile(scores, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(float(low), float(high))
