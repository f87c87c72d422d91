"""Scores of rows of results, with intervals and paired differences to one of the rows.

A row is one result, or the results of one setting by seed.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.config.schema import ConfigError
from gestalt.results.intervals import Interval, mean_and_deviation, percentile_interval, t_interval
from gestalt.results.result import Result

Rows = Mapping[str, Mapping[int, Result]]
"""Results by row and seed."""


@dataclass(frozen=True)
class Difference:
    """The score of a row minus that of the base row, over the seeds that both have.

    Attributes:
        mean: over seeds.
        over_images: paired over images; None as for a ``Score``.
        over_seeds: by Student's t; None for a single seed.
    """

    mean: float
    over_images: Interval | None
    over_seeds: Interval | None


@dataclass(frozen=True)
class Score:
    """A metric of a row.

    Attributes:
        values: by seed; empty if no run is finished.
        over_images: 95 % interval of the mean over seeds; None if a result kept no arrays, or has
            too few images of a class or a group.
        difference: to the base row; None for that row, or if either has no result.
    """

    values: dict[int, float]
    over_images: Interval | None = None
    difference: Difference | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return mean_and_deviation(list(self.values.values()))[0] if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds."""
        return mean_and_deviation(list(self.values.values()))[1] if self.values else None


def score_rows(
    rows: Rows, metric: str, *, against: str, allow_other_images: bool = False
) -> dict[str, Score]:
    """Score every row and compare it to the row ``against``.

    Args:
        rows: results that have the metric.
        metric: its key.
        against: the base row.
        allow_other_images: True to leave out the intervals over images if the results are of
            different images.

    Raises:
        ConfigError: the results are of different images; or as ``Result.contribution``.
    """
    samples = _samples(rows, metric, allow_other_images=allow_other_images)
    scores = {}
    for row, results in rows.items():
        values = {seed: float(result.record["metrics"][metric]) for seed, result in results.items()}
        seeds = [seed for seed in values if seed in rows.get(against, {})]
        difference = None
        if row != against and seeds:
            differences = [
                values[seed] - float(rows[against][seed].record["metrics"][metric])
                for seed in seeds
            ]
            over_images = samples.interval([row, against], seeds)
            difference = Difference(
                mean_and_deviation(differences)[0], over_images, t_interval(differences)
            )
        scores[row] = Score(
            values, over_images=samples.interval([row], values), difference=difference
        )
    return scores


class Samples(NamedTuple):
    """The spread of results over the same images.

    Attributes:
        of: samples of a ``Contribution``, by row and seed; none for a result that kept no arrays.
        rule: the function from samples to their interval.
    """

    of: Mapping[tuple[str, int], NDArray[np.float64]]
    rule: Callable[[NDArray[np.float64]], Interval | None] = percentile_interval

    def interval(self, rows: list[str], seeds: Collection[int]) -> Interval | None:
        """Return the interval of a row's mean over seeds, or of the difference of two rows; None
        without seeds or samples.
        """
        if not seeds or any((row, seed) not in self.of for row in rows for seed in seeds):
            return None
        means = [np.mean([self.of[row, seed] for seed in seeds], axis=0) for row in rows]
        return self.rule(means[0] - means[1] if len(means) == 2 else means[0])


def _samples(rows: Rows, metric: str, *, allow_other_images: bool) -> Samples:
    """Return the samples of the results that kept arrays, all of the same images, which pairs
    them.
    """
    samples = Samples({})
    first: tuple[str, NDArray[Any], str | None] | None = None
    for row, seed, result in (
        (row, seed, result) for row, results in rows.items() for seed, result in results.items()
    ):
        contribution = result.contribution(metric)
        if contribution is None:
            continue
        names = result.entry(metric).get("image_names")
        label, marks, first_names = first = first or (result.label, contribution.marks, names)
        if not np.array_equal(contribution.marks, marks) or names != first_names:
            if allow_other_images:
                return Samples({})
            raise ConfigError(
                f"{metric}: the images of {result.label} are not those of {label}, so the "
                "difference cannot be paired; "
                "evaluate both again on the same images"
            )
        samples = Samples(
            {**samples.of, (row, seed): contribution.samples()}, contribution.interval
        )
    return samples
