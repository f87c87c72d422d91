"""Scores of rows of results, with intervals and paired differences to one of the rows.

A row is one result, or the results of one setting by seed.
"""

from collections.abc import Collection, Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gestalt.config.schema import ConfigError
from gestalt.results.intervals import Contribution, Interval, deviation, t_interval
from gestalt.results.result import Result

Rows = Mapping[str, Mapping[int, Result]]
"""Results by row and seed."""


class Difference(NamedTuple):
    """The score of a row minus that of the base row, over the seeds that both have.

    Attributes:
        mean: over seeds.
        over_images: paired over images; None as for a ``Score``.
        over_seeds: by Student's t; None for a single seed.
    """

    mean: float
    over_images: Interval | None
    over_seeds: Interval | None


class Score(NamedTuple):
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
        return fmean(self.values.values()) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return deviation(list(self.values.values()))


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
    contributions = _contributions(rows, metric, allow_other_images=allow_other_images)
    samples = {key: contribution.samples() for key, contribution in contributions.items()}

    def interval(seeds: Collection[int], *names: str) -> Interval | None:
        """Return the interval of a row's mean over seeds, or of the difference of two rows; None
        without seeds or samples.
        """
        keys = [[(row, seed) for seed in seeds] for row in names]
        if not seeds or not samples.keys() >= {key for of_row in keys for key in of_row}:
            return None
        mean, *base_mean = (np.mean([samples[key] for key in of_row], axis=0) for of_row in keys)
        return contributions[keys[0][0]].interval(mean - sum(base_mean))

    values = {
        row: {seed: float(result.record["metrics"][metric]) for seed, result in results.items()}
        for row, results in rows.items()
    }
    base = values.get(against, {})
    scores = {}
    for row, by_seed in values.items():
        seeds = [seed for seed in by_seed if seed in base]
        difference = None
        if row != against and seeds:
            differences = [by_seed[seed] - base[seed] for seed in seeds]
            over_images = interval(seeds, row, against)
            difference = Difference(fmean(differences), over_images, t_interval(differences))
        scores[row] = Score(by_seed, interval(by_seed, row), difference)
    return scores


def _contributions(
    rows: Rows, metric: str, *, allow_other_images: bool
) -> dict[tuple[str, int], Contribution]:
    """Return the contributions by row and seed of the results that kept arrays, all of the same
    images, which pairs them.
    """
    contributions = {}
    first = None
    for row, results in rows.items():
        for seed, result in results.items():
            contribution = result.contribution(metric)
            if contribution is None:
                continue
            names = result.entry(metric).get("image_names")
            first = first or (result.label, names, contribution.marks)
            if names != first[1] or not np.array_equal(contribution.marks, first[2]):
                if allow_other_images:
                    return {}
                raise ConfigError(
                    f"{metric}: the images of {result.label} are not those of {first[0]}, so the "
                    "difference cannot be paired; evaluate both again on the same images"
                )
            contributions[row, seed] = contribution
    return contributions
