"""What each image contributed to a metric, and the metric of any resample of the images.  R resamples, N images, C classes, P places.

Sums over images come first and the metric is made of the sums, so that a minimum over groups is that of each resample.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.config.schema import ConfigError
from gestalt.ledger.statistics import Interval, draws, percentile_interval, resampled, resampled_sums
from gestalt.measures.classification.metric import adjusted_accuracy, drops, mean_group, worst_group

DIRECTIONS = ("image_to_text", "text_to_image")
"""Of retrieval; a recall without direction is the mean of both."""

Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From the accuracies (R, C, P) of groups to a metric (R,)."""

_drawn = lru_cache(maxsize=1)(draws)  # several metrics of one set in turn


class Contribution(NamedTuple):
    """What the images of a result contributed to one metric.

    Attributes:
        images: N.
        marks: (N, ...), what the truth alone decides; equal in results of the same images.
        resampled: from how often each image is in each resample, (R, N), to the metric, (R,); nan where a resample has none.
    """

    images: int
    marks: NDArray[Any]
    resampled: Callable[[NDArray[np.int64]], NDArray[np.float64]]

    def samples(self) -> NDArray[np.float64]:
        """The metric of every resample, which are the same for all contributions of so many images."""
        return self.resampled(_drawn(self.images))

    def interval(self) -> Interval | None:
        """95 %, by bootstrap over images; None where too many resamples have no value."""
        return percentile_interval(self.samples())


def contribution(
    arrays: Mapping[str, NDArray[Any]], metric: str, *, entry: Mapping[str, Any], value: float, path: Path
) -> Contribution | None:
    """What the images of a set contributed to a metric; None where nothing of them was kept.

    Args:
        arrays: of the set, by name.
        metric: its key.
        entry: what the record says of it, such as the names of the classes.
        value: the metric, as the record says it.
        path: of the arrays, for people.

    Raises:
        ConfigError: they do not come to that value.
    """
    found = _find(arrays, metric.partition("/")[2], entry=entry)
    if found is None:
        return None
    again = float(found.resampled(np.ones((1, found.images), dtype=np.int64))[0])
    if abs(again - value) > 1e-6:
        raise ConfigError(f"{path}: its images come to {metric} {again:.6f}, the record says {value:.6f}")
    return found


def _find(arrays: Mapping[str, NDArray[Any]], what: str, *, entry: Mapping[str, Any]) -> Contribution | None:
    """By the name of the metric."""
    array = arrays.get("counts" if what == "miou" else what)
    if array is not None:
        return Contribution(len(array), _marks(array, group=arrays.get("group")), partial(resampled, array))
    both = [arrays[key] for key in (f"{direction}_{what}" for direction in DIRECTIONS) if key in arrays]
    if len(both) == len(DIRECTIONS):
        return Contribution(len(both[0]), np.stack([one[:, 1] for one in both], axis=1), partial(_mean_of, both))
    if "group" in arrays and "names" in entry and what in (rules := _of_cells(entry)):
        group = arrays["group"].astype(np.int64)
        counts = np.zeros((len(group), 2, len(entry["names"]) ** 2), dtype=np.int64)  # named right, and all, of each class at each place
        counts[np.arange(len(group)), 0, group] = arrays["accuracy"].astype(np.int64)
        counts[np.arange(len(group)), 1, group] = 1
        return Contribution(len(group), group, partial(_of_counts, counts, rules[what]))
    return None


def _marks(array: NDArray[Any], *, group: NDArray[Any] | None) -> NDArray[Any]:
    """Of counts the truth, of hits the queries, of values the group, or else which images have one."""
    if array.ndim == 3:
        return array[:, 2]
    if array.ndim == 2:
        return array[:, 1]
    return np.isnan(array.astype(np.float64)) if group is None else group


def _mean_of(parts: Sequence[NDArray[Any]], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of several metrics of each resample."""
    mean: NDArray[np.float64] = np.mean([resampled(part, drawn) for part in parts], axis=0)
    return mean


def _of_counts(counts: NDArray[np.int64], rule: Rule, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """A rule on the accuracies (R, C, C) of the groups in each resample.

    Nan for a group that none of its images is of; then no one knows which the worst is, or what their mean is.
    """
    right, total = resampled_sums(counts, drawn).astype(np.float64).swapaxes(0, 1)
    classes = round(counts.shape[2] ** 0.5)
    cells = np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
    scores = rule(cells.reshape(len(cells), classes, classes))
    lacking = (total == 0)[:, counts[:, 1].any(axis=0)].any(axis=1)
    return np.where(lacking, np.nan, scores) if rule in (worst_group, mean_group) else scores


def _of_cells(entry: Mapping[str, Any]) -> dict[str, Rule]:
    """What a robustness set measures, from the accuracies of its groups: metric -> rule."""
    rules: dict[str, Rule] = {"worst_group": worst_group, "mean_group": mean_group}
    if "train_groups" in entry:
        rules["adjusted_accuracy"] = partial(adjusted_accuracy, train_groups=entry["train_groups"])
    for own, name in enumerate(entry["names"]):
        rules[f"accuracy/{name}_usual_place"] = partial(_usual, own)
        rules[f"accuracy/{name}_other_place"] = partial(_other, own)
        rules[f"delta/{name}"] = partial(_delta, own)
    return rules


def _usual(own: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return cells[:, own, own]


def _delta(own: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return drops(cells, usual=range(cells.shape[1]))[:, own]


def _other(own: int, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return _usual(own, cells) - _delta(own, cells)
