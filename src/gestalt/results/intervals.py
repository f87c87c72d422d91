"""Compute 95 % intervals of a metric.  Intervals over images use the jackknife for mIoU, and the
bootstrap for other metrics.  Intervals over seeds use Student's t.

An interval over seeds shows how far the metric could differ after training with another seed. An
interval over images shows how far it could differ on another sample of test images.

- Jackknife: m is the mIoU of N images and m_i is the mIoU without image i. The pseudo-value of
  image i is N m - (N - 1) m_i. The interval is that of Student's t for the mean of the
  pseudo-values.  Source: Tukey, Bias and confidence in not-quite large samples, 1958.
- Bootstrap: N images are drawn with replacement R times. For each resample, the metric is computed
  from sums over its images. The interval covers the middle 95 % of the R metrics.
- Paired: the interval of a difference is computed from differences between pseudo-values of the
  same image, or between metrics of the same resample.

R resamples, N images, C classes, P = C places (backgrounds of a robustness set).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np

from gestalt.measures.evaluation.confusion import divide_or_nan, iou_of, mean_without_nan
from gestalt.measures.robustness.groups import group_metrics
from gestalt.support.arrays import Array, Floats, Ints

RESAMPLES = 2000
SEED = 0
"""Seed of the resamples.  The same images are drawn for every result, so that the bootstrap is
paired.
"""

LEVEL = 0.95
WITHOUT = 0.05
"""Maximum share of resamples without images of some group, or of classes in fewer than two images.
Above it there is no interval.
"""

MIN_IMAGES = 30
"""Minimum number of images for an interval of mIoU."""

DIRECTIONS = ("image_to_text", "text_to_image")
"""Directions of retrieval.  A recall without a direction is the mean of both."""


ROUNDING = 1e-6
"""Tolerance in the test whether an interval contains a number, for rounding errors."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Return True if a number is in the interval."""
        return self.low - ROUNDING <= number <= self.high + ROUNDING


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of normally distributed values, from Student's t; None
    for a single value.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # importing takes 0.1 s

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def pseudo_values(counts: Ints) -> Floats:
    """Return the jackknife pseudo-values of the mIoU, (N,), from pixel counts, (N, 3, C).

    If only one image contains a class, the class keeps its IoU when that image is left out, so that
    a few stray pixels do not change the number of classes.
    """
    total = counts.sum(axis=0)
    whole = iou_of(total)
    without = iou_of(total - counts)
    without = np.where(np.isnan(without), whole, without)
    return len(counts) * mean_without_nan(whole, axis=-1) - (len(counts) - 1) * mean_without_nan(
        without, axis=-1
    )


@lru_cache(maxsize=1)  # all metrics of a set use the same draws
def draws(images: int) -> Ints:
    """Return how often each resample contains each image, (R, N)."""
    random = np.random.default_rng([SEED, images])
    return random.multinomial(images, [1 / images] * images, size=RESAMPLES)


def percentile_interval(scores: Floats) -> Interval | None:
    """Return the middle 95 % of the resamples' scores; None if the share of nan is above
    ``WITHOUT``.
    """
    if np.isnan(scores).mean() > WITHOUT:
        return None
    low, high = np.nanquantile(scores, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(float(low), float(high))


def resample(array: Array, repeats: Ints) -> Floats:
    """Return a metric of each resample, (R,); nan if it is undefined.

    Args:
        array: for mIoU the pixel counts, (N, 3, C); for a share the hits and queries, (N, 2); for a
            mean the values, (N,), nan for images without a value.
        repeats: how often each resample contains each image, (R, N).
    """
    if array.ndim == 3:
        return mean_without_nan(iou_of(resampled_sums(array, repeats)), axis=-1)
    if array.ndim == 2:
        return divide_or_nan(*resampled_sums(array, repeats).T)
    return divide_or_nan(repeats @ np.nan_to_num(array), repeats @ ~np.isnan(array))


def resampled_sums(counts: Array, repeats: Ints) -> Ints:
    """Sum integer counts, (N, ...), over the images of each resample.  Returns (R, ...)."""
    return np.tensordot(repeats, counts.astype(np.int64), axes=1)


def resampled_groups(counts: Ints, entry: Mapping[str, Any], repeats: Ints) -> dict[str, Floats]:
    """Return name -> metric of a robustness set in each resample, (R,).

    The worst group is chosen separately in each resample.

    A group without images in a resample has accuracy nan; then the worst group and the mean are
    undefined too.

    Args:
        counts: number of correct images and of all images for each class at each place, (N, 2, C *
            P).
        entry: the set's entry in the results file, with the names of the classes.
        repeats: how often each resample contains each image, (R, N).
    """
    right, total = resampled_sums(counts, repeats).swapaxes(0, 1)
    names = entry["names"]
    cells = divide_or_nan(right, total).reshape(-1, len(names), len(names))
    scores = group_metrics(cells, names=names, train_groups=entry.get("train_groups"))
    lacking = (total == 0)[:, counts[:, 1].any(axis=0)].any(axis=1)
    for name in ("worst_group", "mean_group"):
        scores[name] = np.where(lacking, np.nan, scores[name])
    return scores


class Contribution(NamedTuple):
    """The contribution of each image of a result to one metric.

    Attributes:
        marks: (N, ...), depends only on the ground truth, so it is equal in results on the same
            images.
        value: the metric over all images.
        samples: for mIoU the pseudo-values, (N,); for other metrics the metric of each resample,
            (R,), nan if undefined.  The resamples depend only on N.
        jackknife: True if ``samples`` are pseudo-values.
    """

    marks: Array
    value: float
    samples: Floats
    jackknife: bool = False

    def interval(self, samples: Floats, *, least: float = 0.0) -> Interval | None:
        """Return the 95 % interval for samples, for paired differences of samples, or for means of
        samples over seeds.  Returns None if there is a ``reason``.

        A mIoU is between ``least`` and 1, but an interval from Student's t can exceed these bounds.
        It is clipped to them; it is None if it is entirely outside.

        Args:
            samples: samples of this result, or computed from the samples of several results.
            least: minimum value of the metric: 0, or -1 for a difference.
        """
        if not self.jackknife:
            return percentile_interval(samples)
        found = None if self.reason else t_interval(samples.tolist())
        if found is None or found.high < least or found.low > 1:
            return None
        return Interval(max(found.low, least), min(found.high, 1.0))

    @property
    def reason(self) -> str:
        """The reason why ``interval`` is None; empty for a mIoU that has an interval.

        The variation of a class's IoU over images is unknown if the class is in no image or in only
        one.
        """
        if not self.jackknife:
            return "more than one resample in twenty lacks a group"
        images, classes = self.marks.shape
        rare = int(((self.marks > 0).sum(axis=0) < 2).sum())
        if rare > WITHOUT * classes:
            return f"{rare} of {classes} classes are in fewer than two of the {images} images"
        return f"{images} images are fewer than {MIN_IMAGES}" if images < MIN_IMAGES else ""


def contribution(
    arrays: Mapping[str, Array], name: str, entry: Mapping[str, Any]
) -> Contribution | None:
    """Return the contribution of each image of a set to a metric; None if the arrays were not
    stored.

    Args:
        arrays: name -> array of the set.
        name: name of the metric, without the set.
        entry: the set's entry in the results file, with the names of the classes.
    """
    array = arrays.get("counts" if name == "miou" else name)
    if array is not None:
        # A copy lets the counts be freed.
        marks = array[:, -1].copy() if array.ndim > 1 else arrays.get("group", np.isnan(array))
        return _contribution(marks, partial(resample, array), array if array.ndim == 3 else None)
    recalls = [f"{direction}_{name}" for direction in DIRECTIONS]
    if arrays.keys() >= set(recalls):
        hits = [arrays[key] for key in recalls]
        return _contribution(
            np.stack([part[:, 1] for part in hits], axis=1),
            lambda repeats: np.mean([resample(part, repeats) for part in hits], axis=0),
        )
    if "group" in arrays and "names" in entry:
        group = arrays["group"].astype(np.int64)
        member = np.eye(len(entry["names"]) ** 2, dtype=np.int64)[group]
        right = arrays["accuracy"].astype(np.int64)
        counts = np.stack([member * right[:, None], member], axis=1)
        if name in resampled_groups(counts, entry, np.ones((1, len(group)), dtype=np.int64)):
            return _contribution(
                group, lambda repeats: resampled_groups(counts, entry, repeats)[name]
            )
    return None


def _contribution(
    marks: Array, metric: Callable[[Ints], Floats], counts: Ints | None = None
) -> Contribution:
    """Build a contribution.

    ``metric`` maps how often each resample contains each image, (R, N), to the metric of each
    resample, (R,). ``counts`` are the pixel counts of a mIoU, (N, 3, C); None for other metrics.
    """
    value = float(metric(np.ones((1, len(marks)), dtype=np.int64))[0])
    if counts is None:
        return Contribution(marks, value, metric(draws(len(marks))))
    return Contribution(marks, value, pseudo_values(counts.astype(np.int64)), jackknife=True)
