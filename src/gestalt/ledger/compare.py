"""``compare``: runs as rows, metrics as columns, and how sure a difference to the first is.  N images.

Numbers of different protocols, label sets or images share no column, and the paper's numbers are in none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gestalt.config.schema import ConfigError
from gestalt.ledger.alike import alike, differences, facts
from gestalt.ledger.contributions import Contribution
from gestalt.ledger.record import CHANGED
from gestalt.ledger.result import Result
from gestalt.ledger.statistics import Interval, percentile_interval
from gestalt.ledger.text import part_text
from gestalt.support.names import nearest


@dataclass(frozen=True)
class Cell:
    """A metric of a result.

    Attributes:
        value: as the record says it.
        over_images: 95 % interval, by bootstrap over images; None where the result kept nothing of its images.
        difference: to the first result of the column; None for that one.
        difference_over_images: likewise, by paired bootstrap.
    """

    value: float
    over_images: Interval | None
    difference: float | None = None
    difference_over_images: Interval | None = None


@dataclass(frozen=True)
class Column:
    """A metric of all results that measured it in one way.

    Attributes:
        metric: its key.
        how: what tells it from other columns of the metric; empty for an only one.
        part: how many images of how many, where it is not the published set that was scored; empty where it is.
        against: the label of the result that differences are to.
        cells: by label.
    """

    metric: str
    how: str
    part: str
    against: str
    cells: dict[str, Cell]

    @property
    def title(self) -> str:
        """Metric, part and way."""
        said = ", ".join(filter(None, (self.part, self.how)))
        return f"{self.metric} ({said})" if said else self.metric


@dataclass(frozen=True)
class Comparison:
    """A table.

    Attributes:
        results: the rows.
        columns: in the order of the results' benchmarks.
        notes: what a reader must know.
    """

    results: tuple[Result, ...]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = field(default=())


def compare(results: Sequence[Result], *, metrics: Sequence[str] = (), allow_mixed: bool = False) -> Comparison:
    """Put results side by side.

    Args:
        results: with different labels.
        metrics: keys such as ``scenes/miou``, or what comes behind the set's name, such as ``miou``; none for the headlines.
        allow_mixed: give what was measured in another way a column of its own, instead of refusing it.

    Raises:
        ConfigError: no such metric; results were measured differently, and that is not allowed; arrays that are not the record's.
    """
    columns, mixed = [], []
    for metric in _wanted(results, metrics):
        groups = alike([one for one in results if one.value(metric) is not None], metric)
        ways = _ways(groups, metric) if len(groups) > 1 else [""]
        mixed += [_sentence(groups, metric)] if len(groups) > 1 else []
        columns += [_column(group, metric, how=how) for group, how in zip(groups, ways, strict=True)]
    if mixed and not allow_mixed:
        raise ConfigError(f"not comparable: {'; '.join(mixed)}; compare others, or say --allow-mixed for columns of their own")
    return Comparison(tuple(results), tuple(columns), notes=(*(f"Columns apart: {one}." for one in mixed), *_notes(results, columns)))


def _wanted(results: Sequence[Result], metrics: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(key for one in results for key in one.record["metrics"] if one.value(key) is not None))
    if not metrics:
        found = list(dict.fromkeys(key for one in results for key in one.headlines()))
        if not found:
            raise ConfigError(f"{', '.join(one.label for one in results)}: no result has a metric to compare")
        return found
    found = []
    for metric in metrics:
        meant = [key for key in known if metric in (key, key.partition("/")[2])]
        if not meant:
            choices = sorted({key.partition("/")[2] for key in known if "/iou/" not in key})
            raise ConfigError(f"--metric {metric}: no result has it; {nearest(metric, choices)}")
        found += meant
    return list(dict.fromkeys(found))


def _sentence(groups: Sequence[Sequence[Result]], metric: str) -> str:
    """Which facts differ, and between whom."""
    first = groups[0][0]
    parts = []
    for group in groups[1:]:
        found = differences(first, group[0], metric)
        said = ", ".join(f"{key} is {one} there, {other} here" for key, (one, other) in found.items())
        parts.append(f"{first.label} (there) and {group[0].label} (here): {said}")
    return f"{metric} of {'; '.join(parts)}"


def _ways(groups: Sequence[Sequence[Result]], metric: str) -> list[str]:
    """A short clause that tells each group from the others."""
    each = [facts(group[0], metric) for group in groups]
    keys = [key for key in each[0] if all(key in one for one in each) and any(one[key] != each[0][key] for one in each)]
    short = [key for key in keys if all(isinstance(one[key], str | int | float) for one in each)]
    told = [key for key in short if not key.endswith("digest")] or short
    ways = [", ".join(f"{key.removeprefix('protocol.')} {one[key]}" for key in told[:3]) for one in each]
    return ways if len(set(ways)) == len(ways) else [f"{way}; {number}" for number, way in enumerate(ways, start=1)]


def _column(group: Sequence[Result], metric: str, *, how: str) -> Column:
    """Values with their intervals, and differences to the first of the group."""
    contributions = {one.label: found for one in group if (found := one.contribution(metric)) is not None}
    _refuse_other_images(contributions, metric=metric)
    samples = {label: one.samples() for label, one in contributions.items()}
    against = group[0].label
    cells = {}
    for one in group:
        value, mine = one.value(metric), samples.get(one.label)
        assert value is not None
        own = None if mine is None else percentile_interval(mine)
        if one.label == against:
            cells[one.label] = Cell(value, own)
            continue
        base = samples.get(against)
        paired = None if mine is None or base is None else percentile_interval(mine - base)
        difference = value - (group[0].value(metric) or 0.0)
        cells[one.label] = Cell(value, own, difference=difference, difference_over_images=paired)
    parts = [part_text(entry) for one in group for entry in one.entries(metric)]
    return Column(metric, how, part=next(filter(None, parts), ""), against=against, cells=cells)


def _refuse_other_images(contributions: Mapping[str, Contribution], *, metric: str) -> None:
    """A paired bootstrap needs the same images in the same order: their truth, or which of them have a value, tells."""
    for label, one in contributions.items():
        first = next(iter(contributions))
        if not np.array_equal(one.marks, contributions[first].marks):
            raise ConfigError(f"{metric}: the images of {label} are not those of {first}, so that no difference is paired; score anew")


def _notes(results: Sequence[Result], columns: Sequence[Column]) -> list[str]:
    commits = {str(one.record["provenance"].get("commit", "unknown")) for one in results}
    notes = [f"The code differs: commits {', '.join(sorted(commits))}."] if len(commits) > 1 else []
    vague = sorted(commit for commit in commits if commit == "unknown" or commit.endswith(CHANGED))
    notes += [f"Commit {commit}: nothing here says what the code was." for commit in vague]
    inits: dict[str, list[str]] = {}
    for one in results:
        init = one.record.get("image_init", {})
        if init.get("asked") != init.get("used"):
            inits.setdefault(f"image.init asked {init['asked']}, used {init['used']}", []).append(one.label)
    notes += [f"{said}: {', '.join(labels)}." for said, labels in inits.items()]
    for one in results:
        notes += [f"{one.label}: no result of {column.title}." for column in columns if not column.how and one.label not in column.cells]
    bare = sorted({label for column in columns for label, cell in column.cells.items() if cell.over_images is None})
    return notes + [f"{label}: no interval where nothing of each image was kept." for label in bare]
