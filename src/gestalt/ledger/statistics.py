"""How sure a difference is: over seeds by t, over images by a paired bootstrap.  R resamples, N images, C classes, S seeds.

The two say different things: over seeds, whether another training would agree; over images, whether another draw of test images would.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.evaluation.confusion import iou_of

RESAMPLES = 2000
SEED = 0
"""Of the draws: the same images are drawn for every cell, which is what makes the bootstrap paired."""

LEVEL = 0.95
WITHOUT = 0.05
"""The largest share of resamples that may have no value, such as those that lack a group; with more of them there is no interval."""

EXACT = 2**53
"""Integers below it are exact in float64, so that sums of pixel counts may go through the fast matrix product."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and sample standard deviation (divisor S - 1), None for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_interval(values: Sequence[float]) -> Interval | None:
    """Of the mean of a normal sample; None for a single value."""
    mean, deviation = mean_and_deviation(values)
    if deviation is None:
        return None
    half = t_quantile(0.5 + LEVEL / 2, freedom=len(values) - 1) * deviation / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def t_quantile(probability: float, *, freedom: int) -> float:
    """Where Student's distribution function reaches ``probability``, in (0, 1)."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def draws(images: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """(R, N): how often each image is in each resample; a pure function of its arguments."""
    drawn: NDArray[np.int64] = np.random.default_rng([seed, images]).multinomial(images, [1 / images] * images, size=resamples)
    return drawn


def resampled_sums(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer counts (N, ...) summed over the images of each resample, (R, ...)."""
    assert int(counts.sum(axis=0).max(initial=0)) * int(drawn.max(initial=0)) < EXACT
    totals = drawn.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)
    return totals.astype(np.int64).reshape(len(drawn), *counts.shape[1:])


def resampled_miou(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """mIoU of each resample, (R,), from integer counts (N, 3, C) summed anew; nan without any class."""
    return _nanmean(iou_of(resampled_sums(counts, drawn)))


def resampled_share(counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of hits among queries of each resample, (R,), from both (N, 2) summed anew; nan without a query."""
    hits, queries = resampled_sums(counts, drawn).T
    share: NDArray[np.float64] = np.divide(hits, queries, out=np.full(len(drawn), np.nan), where=queries > 0)
    return share


def resampled_mean(values: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the images that have a value, of each resample, (R,); nan without any."""
    present = ~np.isnan(values)
    sums = drawn[:, present] @ values[present]
    times = drawn[:, present].sum(axis=1)
    mean: NDArray[np.float64] = np.divide(sums, times, out=np.full(len(drawn), np.nan), where=times > 0)
    return mean


def resampled(array: NDArray[np.generic], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of all resamples, from counts (N, 3, C), from hits and queries (N, 2), or from values (N,)."""
    if array.ndim > 1:
        return (resampled_miou if array.ndim == 3 else resampled_share)(array.astype(np.int64), drawn)
    return resampled_mean(array.astype(np.float64), drawn)


def percentile_interval(scores: NDArray[np.float64]) -> Interval | None:
    """The middle 95 % of the resamples' scores; None where more than ``WITHOUT`` of them are nan."""
    if np.isnan(scores).mean() > WITHOUT:
        return None
    low, high = np.nanquantile(scores, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(float(low), float(high))


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis; nan, and no warning, where all are nan."""
    present = ~np.isnan(values)
    times = present.sum(axis=-1)
    sums = np.where(present, values, 0.0).sum(axis=-1)
    mean: NDArray[np.float64] = np.divide(sums, times, out=np.full(times.shape, np.nan), where=times > 0)
    return mean
