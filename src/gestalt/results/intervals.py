"""Intervals of 95 % of a metric: over images by the jackknife for mIoU, else by the bootstrap; over
seeds by Student's t.

An interval over seeds shows how far another training could differ; one over images, how far another
sample of test images could.

- Jackknife: with m the mIoU of N images and m_i that without image i, the pseudo-value of image i
  is N m - (N - 1) m_i.  The interval is Student's t of the mean of the pseudo-values.  Source:
  Tukey, Bias and confidence in not-quite large samples, 1958.
- Bootstrap: R times N images are drawn with replacement, and the metric is computed from sums over
  them; the interval is the middle 95 %.
- Paired: the interval of a difference is that of the differences of pseudo-values of the same
  image, or of the metric of the same draw.

R resamples, N images, C classes, P = C places.
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
"""Seed of the draws: the same images are drawn for every result, which pairs the bootstrap."""

LEVEL = 0.95
WITHOUT = 0.05
"""Largest share of resamples that lack a group, or of classes in fewer than two images; above it
there is no interval.
"""

MIN_IMAGES = 30
"""Least N of an interval of mIoU."""

DIRECTIONS = ("image_to_text", "text_to_image")
"""Directions of retrieval; a recall without direction is the mean of both."""


ROUNDING = 1e-6
"""A number that is outside of its interval by no more may differ by rounding alone."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Return True if a number is in the interval."""
        return self.low - ROUNDING <= number <= self.high + ROUNDING


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of a normal sample, by Student's t; None for a single
    value.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # a tenth of a second

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def pseudo_values(counts: Ints) -> Floats:
    """Return the jackknife's pseudo-values of the mIoU, (N,), from counts (N, 3, C).

    A class that only one image has keeps its IoU without that image, so that a few stray pixels do
    not change the number of classes.
    """
    total = counts.sum(axis=0)
    whole = iou_of(total)
    without = iou_of(total - counts)
    without = np.where(np.isnan(without), whole, without)
    return len(counts) * mean_without_nan(whole, axis=-1) - (len(counts) - 1) * mean_without_nan(
        without, axis=-1
    )


@lru_cache(maxsize=1)  # the metrics of a set share it
def draws(images: int) -> Ints:
    """Return how often each image is in each resample, (R, N)."""
    random = np.random.default_rng([SEED, images])
    return random.multinomial(images, [1 / images] * images, size=RESAMPLES)


def percentile_interval(scores: Floats) -> Interval | None:
    """Return the middle 95 % of the resamples' scores; None if a share above ``WITHOUT`` is nan."""
    if np.isnan(scores).mean() > WITHOUT:
        return None
    low, high = np.nanquantile(scores, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(float(low), float(high))


def resample(array: Array, repeats: Ints) -> Floats:
    """Return a metric of each resample, (R,); nan if it is undefined.

    Args:
        array: for mIoU the counts of pixels (N, 3, C), for a share hits and queries (N, 2), for a
            mean the values (N,), nan for none.
        repeats: how often each image is in each resample, (R, N).
    """
    if array.ndim == 3:
        return mean_without_nan(iou_of(resampled_sums(array, repeats)), axis=-1)
    if array.ndim == 2:
        return divide_or_nan(*resampled_sums(array, repeats).T)
    return divide_or_nan(repeats @ np.nan_to_num(array), repeats @ ~np.isnan(array))


def resampled_sums(counts: Array, repeats: Ints) -> Ints:
    """Sum integer counts (N, ...) over the images of each resample.  Returns (R, ...)."""
    return np.tensordot(repeats, counts.astype(np.int64), axes=1)


def resampled_groups(counts: Ints, entry: Mapping[str, Any], repeats: Ints) -> dict[str, Floats]:
    """Return the metrics of a robustness set in each resample, (R,), by name; the worst group is
    chosen anew in each.

    A group without images in a resample has accuracy nan; then the worst group and the mean are
    undefined too.

    Args:
        counts: images named right, and all, of each class at each place: (N, 2, C * P).
        entry: entry of the record, with the names of the classes.
        repeats: how often each image is in each resample, (R, N).
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
    """The contributions of the images of a result to one metric.

    Attributes:
        marks: (N, ...), determined by the truth alone, so equal in results of the same images.
        value: the metric of all images, each once.
        samples: the pseudo-values of a mIoU, (N,), else the metric of every resample, (R,), nan if
            undefined; the resamples are the same for the same N.
        jackknife: True for pseudo-values.
    """

    marks: Array
    value: float
    samples: Floats
    jackknife: bool = False

    def interval(self, samples: Floats, *, least: float = 0.0) -> Interval | None:
        """Return the 95 % interval of samples, of paired differences of samples, or of their mean
        over seeds; None for a ``reason``.

        Student's t does not know that a mIoU lies between ``least`` and 1, so that its interval is
        cut there; None if it lies outside altogether.

        Args:
            samples: of this result, or computed from those of several.
            least: smallest value that the metric can have: 0, or -1 for a difference.
        """
        if not self.jackknife:
            return percentile_interval(samples)
        found = None if self.reason else t_interval(samples.tolist())
        if found is None or found.high < least or found.low > 1:
            return None
        return Interval(max(found.low, least), min(found.high, 1.0))

    @property
    def reason(self) -> str:
        """Reason for which ``interval`` is None; empty for a mIoU that has one.

        A class that is absent, or in a single image, shows nothing of how its IoU would differ in
        other images.
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
    """Return the contributions of a set's images to a metric; None if their arrays were not kept.

    Args:
        arrays: arrays of the set, by name.
        name: the metric's, without the set.
        entry: entry of the record, with the names of the classes.
    """
    array = arrays.get("counts" if name == "miou" else name)
    if array is not None:
        # of the counts, which are not kept
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
    """Return a contribution by the metric, (R,), of how often each image is in each resample, (R,
    N); for a mIoU by its counts of pixels (N, 3, C).
    """
    value = float(metric(np.ones((1, len(marks)), dtype=np.int64))[0])
    if counts is None:
        return Contribution(marks, value, metric(draws(len(marks))))
    return Contribution(marks, value, pseudo_values(counts.astype(np.int64)), jackknife=True)
