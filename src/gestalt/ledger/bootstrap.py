"""Contribution of each image to a metric, and the interval of the metric over images: by the jackknife for mIoU, else by the bootstrap.

R resamples, N images, C classes, P places.  The metric is computed from sums over the images of a resample, so a minimum over groups is
that of each resample.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.config.schema import ConfigError
from gestalt.evaluation.confusion import divide_or_nan
from gestalt.ledger.statistics import (
    WITHOUT,
    Interval,
    draws,
    percentile_interval,
    pseudo_values,
    resampled,
    resampled_sums,
    t_interval,
    too_few_for_miou,
)
from gestalt.measures.classification.metric import adjusted_accuracy, drops, mean_group, worst_group

DIRECTIONS = ("image_to_text", "text_to_image")
"""Directions of retrieval; a recall without direction is the mean of both."""

Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps the accuracies (R, C, P) of groups to a metric (R,)."""

_drawn = lru_cache(maxsize=1)(draws)  # shared by the metrics of a set


class Contribution(NamedTuple):
    """The contributions of the images of a result to one metric.

    Attributes:
        images: their number N.
        marks: (N, ...), determined by the truth alone, so equal in results of the same images.
        resampled: maps how often each image is in each resample, (R, N), to the metric, (R,); nan if undefined.
        counts: (N, 3, C), the pixel counts of a mIoU; None for other metrics.
    """

    images: int
    marks: NDArray[Any]
    resampled: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    counts: NDArray[np.int64] | None = None

    def samples(self) -> NDArray[np.float64]:
        """Return the pseudo-values of a mIoU, (N,), else the metric of every resample, (R,), which are the same for the same N."""
        return self.resampled(_drawn(self.images)) if self.counts is None else pseudo_values(self.counts)

    def interval(self, samples: NDArray[np.float64]) -> Interval | None:
        """Return the 95 % interval of samples, of paired differences of samples, or of their mean over seeds; None for a ``reason``."""
        if self.counts is None:
            return percentile_interval(samples)
        return None if self.reason else t_interval(samples.tolist())

    @property
    def reason(self) -> str:
        """The reason, of a metric for which ``interval`` is None."""
        return f"more than {WITHOUT:.0%} of the resamples lack a group" if self.counts is None else too_few_for_miou(self.marks)


def contribution(
    arrays: Mapping[str, NDArray[Any]], metric: str, *, entry: Mapping[str, Any], value: float, path: Path
) -> Contribution | None:
    """Return the contributions of a set's images to a metric, checked against the record; None if their arrays were not kept.

    Args:
        arrays: arrays of the set, by name.
        metric: its key.
        entry: entry of the record, with the names of the classes.
        value: the metric in the record.
        path: path of the arrays, for messages.

    Raises:
        ConfigError: the contributions do not give that value.
    """
    contributed = _from_arrays(arrays, metric.partition("/")[2], entry=entry)
    if contributed is None:
        return None
    recomputed = float(contributed.resampled(np.ones((1, contributed.images), dtype=np.int64))[0])
    if abs(recomputed - value) > 1e-6:
        raise ConfigError(f"{path}: its images give {metric} {recomputed:.6f}, but the record has {value:.6f}; evaluate again")
    return contributed


def _from_arrays(arrays: Mapping[str, NDArray[Any]], name: str, *, entry: Mapping[str, Any]) -> Contribution | None:
    """Select the arrays and the rule by the metric's name."""
    array = arrays.get("counts" if name == "miou" else name)
    if array is not None:
        counts = array.astype(np.int64) if array.ndim == 3 else None
        return Contribution(len(array), _marks(array, group=arrays.get("group")), partial(resampled, array), counts)
    both = [arrays[key] for key in (f"{direction}_{name}" for direction in DIRECTIONS) if key in arrays]
    if len(both) == len(DIRECTIONS):
        return Contribution(len(both[0]), np.stack([hits[:, 1] for hits in both], axis=1), partial(_mean_of, both))
    if "group" in arrays and "names" in entry and name in (rules := _group_rules(entry)):
        group = arrays["group"].astype(np.int64)
        counts = np.zeros((len(group), 2, len(entry["names"]) ** 2), dtype=np.int64)  # correct and all, of each class at each place
        counts[np.arange(len(group)), 0, group] = arrays["accuracy"].astype(np.int64)
        counts[np.arange(len(group)), 1, group] = 1
        return Contribution(len(group), group, partial(_resampled_groups, counts, rules[name]))
    return None


def _marks(array: NDArray[Any], *, group: NDArray[Any] | None) -> NDArray[Any]:
    """Return the truth of counts, the queries of hits, and for values the group, else which images have one."""
    if array.ndim == 3:
        return array[:, 2]
    if array.ndim == 2:
        return array[:, 1]
    return np.isnan(array.astype(np.float64)) if group is None else group


def _mean_of(parts: Sequence[NDArray[Any]], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of several metrics in each resample."""
    mean: NDArray[np.float64] = np.mean([resampled(part, drawn) for part in parts], axis=0)
    return mean


def _resampled_groups(counts: NDArray[np.int64], rule: Rule, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Apply a rule to the accuracies (R, C, C) of the groups in each resample.

    A group without images in a resample has accuracy nan; then the worst group and the mean are undefined too.
    """
    right, total = resampled_sums(counts, drawn).astype(np.float64).swapaxes(0, 1)
    classes = round(counts.shape[2] ** 0.5)
    scores = rule(divide_or_nan(right, total).reshape(len(total), classes, classes))
    lacking = (total == 0)[:, counts[:, 1].any(axis=0)].any(axis=1)
    return np.where(lacking, np.nan, scores) if rule in (worst_group, mean_group) else scores


def _group_rules(entry: Mapping[str, Any]) -> dict[str, Rule]:
    """Return the metrics of a robustness set -> their rules on the accuracies of its groups."""
    rules: dict[str, Rule] = {"worst_group": worst_group, "mean_group": mean_group}
    if "train_groups" in entry:
        rules["adjusted_accuracy"] = partial(adjusted_accuracy, train_groups=entry["train_groups"])
    for index, name in enumerate(entry["names"]):
        rules[f"accuracy/{name}_usual_place"] = partial(_usual, index)
        rules[f"accuracy/{name}_other_place"] = partial(_other, index)
        rules[f"delta/{name}"] = partial(_delta, index)
    return rules


def _usual(index: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return cells[:, index, index]


def _delta(index: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return drops(cells, usual=range(cells.shape[1]))[:, index]


def _other(index: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return _usual(index, cells) - _delta(index, cells)
