"""Score rows of results, with intervals and paired differences to a base row.

A row is one result, or the results of one setting for several seeds.  torch is not imported.
"""

from collections.abc import Collection, Hashable, Mapping
from statistics import fmean, stdev
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from gestalt.results.intervals import Contribution, Interval, t_interval
from gestalt.results.result import Result, companions
from gestalt.results.text import NONE, baselines_text, interval_text, metric_words
from gestalt.support.files import Fields
from gestalt.support.typed import ConfigError

TRIVIAL = ("constant_background", "one_cluster", "whole_image", "chance")
"""Baselines that do not look at images.  A model below one of them has not learnt the task."""

Rows = Mapping[str, Mapping[int, Result]]
"""Row -> seed -> result."""

Key = tuple[str, int]
"""A pair (row, seed)."""


class Score(NamedTuple):
    """The score of a row in one metric.

    Attributes:
        values: seed -> value of the metric; empty if no run is finished.
        over_images: 95 % interval over images of the mean over seeds.  None if a result stored no
            arrays or has too few images of a class or a group, or if the images differ between
            seeds.
        difference: mean of this row minus mean of the base row, over the seeds that both rows
            have.  None for the base row, or if either row has no result.
        difference_over_images: interval of the difference, paired over images.  None in the same
            cases as ``over_images``, or if the base row has different images.
        difference_over_seeds: interval of the difference from Student's t; None for a single seed.
        baselines: name -> mean over seeds of each baseline of ``TRIVIAL``.
        part: number of images if only a part of the published set was scored; else empty.
    """

    values: dict[int, float]
    over_images: Interval | None = None
    difference: float | None = None
    difference_over_images: Interval | None = None
    difference_over_seeds: Interval | None = None
    baselines: Mapping[str, float] = MappingProxyType({})
    part: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over seeds."""
        return fmean(self.values.values()) if self.values else None

    def text(self) -> str:
        """Return the mean and the standard deviation over seeds, in the form ``0.230 ± 0.020``."""
        if self.mean is None:
            return "no result"
        spread = "" if self.deviation is None else f" ± {self.deviation:.3f}"
        return f"{self.mean:.3f}{spread}"

    def texts(self) -> list[str]:
        """Return the mean and the difference as text, each with its interval over images."""
        mean = f"{self.text()} {interval_text(self.over_images, sign='')}"
        difference = NONE
        if self.difference is not None:
            difference = f"{self.difference:+.3f} {interval_text(self.difference_over_images)}"
        return [mean.removesuffix(f" {NONE}"), difference.removesuffix(f" {NONE}")]

    @property
    def unclear(self) -> bool:
        """True if there is a difference that is not clear.

        A difference is not clear if it has no interval, if the interval contains 0, or if the
        interval does not contain the difference itself, which is possible with the jackknife.
        """
        if self.difference is None:
            return False
        interval = self.difference_over_seeds or self.difference_over_images
        if interval is None:
            return True
        return interval.low <= 0 <= interval.high or not interval.holds(self.difference)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over S seeds (divisor S - 1); None for fewer than two
        seeds.
        """
        return stdev(self.values.values()) if len(self.values) > 1 else None

    def fields(self) -> Fields:
        """Return name -> unrounded number, for CSV."""
        intervals = {
            "images": self.over_images,
            "difference_images": self.difference_over_images,
            "difference_seeds": self.difference_over_seeds,
        }
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "difference": self.difference,
            **{
                f"{name}_{end}": getattr(interval, end, None)
                for name, interval in intervals.items()
                for end in Interval._fields
            },
        }


def finding(metric: str, scores: Mapping[str, Score], *, against: str) -> str:
    """Describe a comparison in sentences; empty without intervals.

    The sentences say which rows are clearly higher or lower than the base row and by how much, for
    which rows the difference is not clear, which part of a benchmark was scored, and which rows a
    trivial baseline beats.

    Intervals are over seeds, or over images if there is a single seed. A difference outside its own
    interval, which is possible with the jackknife, is not clear.
    """
    clauses = []
    for row, score in scores.items():
        interval = score.difference_over_seeds or score.difference_over_images
        if score.difference is None or interval is None:
            continue
        over = "over seeds" if score.difference_over_seeds else "over images"
        if not score.unclear:
            word = "higher" if score.difference > 0 else "lower"
            sizes = Interval(*sorted(map(abs, interval)))
            clauses.append(
                f"{row} is {word} than {against} by {abs(score.difference):.3f} (95 % interval "
                f"{over} {interval_text(sizes, sign='')})"
            )
        else:
            clauses.append(
                f"{row} does not differ clearly from {against} (difference "
                f"{score.difference:+.3f}, 95 % interval {over} {interval_text(interval)})"
            )
    if not clauses:
        return ""
    parts = ", ".join(dict.fromkeys(score.part for score in scores.values() if score.part))
    where = f", on {parts}" if parts else ""
    return f"{metric_words(metric)}{where}: {'; '.join(clauses)}.{below_trivial(scores)}"


def below_trivial(scores: Mapping[str, Score]) -> str:
    """Return a sentence, with a leading space, that names the rows below a trivial baseline; empty
    if there are none.
    """
    below = [
        f"{row} ({mean:.4f}, {baselines_text(beating, digits=4)})"
        for row, score in scores.items()
        if (mean := score.mean) is not None
        if (beating := {name: one for name, one in score.baselines.items() if one > mean})
    ]
    return f" A trivial baseline is higher than {' and '.join(below)}." if below else ""


def score_rows(
    rows: Rows, metric: str, *, against: str, allow_other_images: bool = False
) -> dict[str, Score]:
    """Score every row, and compare it to the row ``against``.

    Args:
        rows: row -> seed -> result that has the metric.
        metric: key of the metric.
        against: the base row.
        allow_other_images: True to accept results of different images.  Their differences and means
            then have no intervals.

    Raises:
        ConfigError: the results are of different images, or arrays do not belong to a results file.
    """
    contributions, images = _contributions(rows, metric, allow_other_images)

    def interval(seeds: Collection[int], *names: str) -> Interval | None:
        """Return the interval of a row's mean over seeds, or of the difference of two rows.
        Returns None without seeds, without arrays, or if the images differ.
        """
        keys = [[(row, seed) for seed in seeds] for row in names]
        scored = {images.get(key) for of_row in keys for key in of_row}
        if len(scored) != 1 or None in scored:
            return None
        mean, *base_mean = (
            np.mean([contributions[key].samples for key in of_row], axis=0) for of_row in keys
        )
        least = -1.0 if base_mean else 0.0
        return contributions[keys[0][0]].interval(mean - sum(base_mean), least=least)

    values = {
        row: {seed: float(result.record["metrics"][metric]) for seed, result in results.items()}
        for row, results in rows.items()
    }
    base = values.get(against, {})
    scores = {}
    for row, by_seed in values.items():
        results = rows[row].values()
        scores[row] = Score(
            by_seed,
            interval(by_seed, row),
            baselines=_trivial(results, metric),
            part=next(filter(None, (result.part(metric) for result in results)), ""),
        )
        seeds = [seed for seed in by_seed if seed in base]
        if row != against and seeds:
            differences = [by_seed[seed] - base[seed] for seed in seeds]
            scores[row] = scores[row]._replace(
                difference=fmean(differences),
                difference_over_images=interval(seeds, row, against),
                difference_over_seeds=t_interval(differences),
            )
    return scores


def _trivial(results: Collection[Result], metric: str) -> dict[str, float]:
    """Return name -> mean over the results of each trivial baseline that all results have."""
    found = [companions(result.record["metrics"], metric) for result in results]
    return {
        name: fmean(one[name] for one in found)
        for name in TRIVIAL
        if found and all(name in one for one in found)
    }


def unpaired(scores: Mapping[str, Score], against: str) -> list[str]:
    """Return a note for each row whose difference to the row ``against`` has no interval although
    both rows have intervals.
    """
    base = scores.get(against)
    return [
        f"{row}: no interval of its difference, because its images or the sizes of their labels "
        f"differ from those of {against}."
        for row, score in scores.items()
        if base and base.over_images and score.over_images and score.difference is not None
        if score.difference_over_images is None
    ]


def _contributions(
    rows: Rows, metric: str, allow_other_images: bool
) -> tuple[dict[Key, Contribution], dict[Key, Hashable]]:
    """Return the contributions of the results that stored arrays, and a key of the images of each.

    Both are by row and seed. Results with equal keys have the same images, and can be paired.
    """
    contributions = {}
    images: dict[Key, Hashable] = {}
    for row, results in rows.items():
        for seed, result in results.items():
            contribution = result.contribution(metric)
            if contribution is None:
                continue
            first = next(iter(images), None)
            names = result.entry(metric).get("image_names")
            images[row, seed] = (names, contribution.marks.tobytes())
            if first and images[row, seed] != images[first] and not allow_other_images:
                raise ConfigError(
                    f"{metric}: the images of {result.label} are not those of "
                    f"{rows[first[0]][first[1]].label}, so the difference cannot be paired; "
                    "evaluate both again on the same images"
                )
            contributions[row, seed] = contribution
    return contributions, images
