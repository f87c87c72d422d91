"""Build the tables of ``compare``: results as rows, metrics as columns, with intervals and paired
differences to the first row.

Results with different protocols, label sets or images are not put into one column. The exception is
one model under several protocols: its rows then name the protocols. The paper's numbers are not
included.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from gestalt.results.comparability import (
    one_model,
    run_notes,
    split_by_measurement,
    supervision_notes,
)
from gestalt.results.intervals import Interval
from gestalt.results.result import Result, headlines, measured
from gestalt.results.scores import Score, score_rows, unpaired
from gestalt.results.text import NONE, OVER_IMAGES, Table
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

METHOD = (
    f"In brackets: 95 % over images, paired for differences. {OVER_IMAGES} Recall, the "
    "worst group and differences between places are computed anew from the summed counts of each "
    "resample; captions are drawn with their image, and the images or captions they are searched "
    "among stay the same; there is no interval if more than one resample in twenty lacks a group."
)

UNCLEAR = "~"
"""Mark of a difference that is not clear, see ``Score.unclear``."""

Key = TypeVar("Key")


class Column(NamedTuple):
    """One metric of all results that were measured in the same way.

    Attributes:
        metric: key of the metric.
        distinction: protocol or results that distinguish this column from other columns of the
            metric; empty if there is only one.
        part: number of images if only a part of the published set was scored; else empty.
        against: label of the result that the others are compared to.
        scores: label -> score.
        results: label -> result.
    """

    metric: str
    distinction: str
    part: str
    against: str
    scores: dict[str, Score]
    results: dict[str, Result]

    @property
    def title(self) -> str:
        """The metric, followed by part and distinction in brackets."""
        details = ", ".join(filter(None, (self.part, self.distinction)))
        return f"{self.metric} ({details})" if details else self.metric


class Comparison(NamedTuple):
    """A table of results.

    Attributes:
        results: a result for each row.
        columns: columns in the order of the results' benchmarks.
        notes: sentences on differences that the numbers do not show.
    """

    results: Sequence[Result]
    columns: Sequence[Column]
    notes: Sequence[str]

    def table(self, view: str = "") -> Table:
        """Return the table as text.  Each column shows the value and, if it has several results,
        the difference to the first.

        Args:
            view: name of the way in which all results were measured.  In the CSV it replaces the
                columns' distinctions.  If given, ``UNCLEAR`` marks differences that are not clear.
        """
        heads = ["run"]
        for column in self.columns:
            heads.append(column.title)
            if len(column.scores) > 1:
                heads.append(f"difference to {column.against}")
        rows = []
        values = []
        for label in dict.fromkeys(result.label for result in self.results):
            rows.append([label])
            for column in self.columns:
                score = column.scores.get(label)
                texts = [NONE, NONE] if score is None else score.texts()
                if view and score is not None and score.unclear:
                    texts[1] += f" {UNCLEAR}"
                rows[-1] += texts if len(column.scores) > 1 else texts[:1]
                if score is not None:
                    result = column.results[label]
                    entry = result.entry(column.metric)
                    values.append(
                        {
                            "run": label,
                            "path": result.path,
                            "metric": column.metric,
                            "measured_by": view or column.distinction,
                            **score.fields(),
                            "against": column.against,
                            "images": entry["images"],
                            "images_official": entry.get("images_official"),
                        }
                    )
        return Table("", heads, rows, notes=self.notes, values=values)


def compare(
    results: Sequence[Result],
    *,
    metrics: Sequence[str] = (),
    allow_mixed: bool = False,
    rows_name_settings: bool = False,
) -> Comparison:
    """Compare results to the first result.

    Results of one model share columns even if their protocols differ, because the rows name what
    was varied.

    Args:
        results: labelled results.  Results with the same label form one row, and must have
            different metrics.
        metrics: keys such as ``scenes/miou``, or names such as ``miou`` for all sets; empty for the
            headline metrics.
        allow_mixed: True to put results that were measured differently into separate columns,
            instead of refusing them.
        rows_name_settings: True to let results of several models share columns even if their
            protocols differ.

    Raises:
        ConfigError: a metric is unknown; results were measured differently and ``allow_mixed`` is
            False; or arrays do not belong to the results file.
    """
    columns = []
    concerned = []  # pairs of a sentence on what differs and a metric
    same = one_model(results)
    varied = same or rows_name_settings
    for metric in select_metrics(results, metrics):
        split = split_by_measurement(results, metric, rows_name_settings=varied)
        concerned += [(sentence, metric) for sentence in split.differences()]
        for group, distinction in zip(split.groups, split.distinctions(), strict=True):
            part = next(filter(None, (result.part(metric) for result in group)), "")
            against = group[0].label
            named = {result.label: result for result in group}
            rows = {label: {0: result} for label, result in named.items()}
            scores = score_rows(rows, metric, against=against, allow_other_images=varied)
            columns.append(Column(metric, distinction, part, against, scores, named))
    differences = [f"{named} of {sentence}" for sentence, named in _joined(concerned).items()]
    if differences and not allow_mixed:
        raise ConfigError(
            f"not comparable: {'; '.join(differences)}; compare other results, list every "
            "difference with --details, or give each its own column with --allow-mixed"
        )
    notes = [f"Separate columns: {sentence}." for sentence in differences]
    if same and differing(results, metrics):
        notes.append(
            "The rows are one model, measured in different ways; gestalt compare --details lists "
            "every setting that differs."
        )
    return Comparison(
        results, columns, [*notes, *_notes(results, columns), *supervision_notes(results)]
    )


def differing(results: Sequence[Result], metrics: Sequence[str] = ()) -> list[Table]:
    """Return tables of the measurement settings that differ.  The title of a table names the
    metrics that it concerns.  The list is empty if no setting differs.
    """
    found = (
        (split_by_measurement(results, metric).table(), metric)
        for metric in select_metrics(results, metrics)
    )
    return [
        replace(table, title=f"{concerned}: settings that differ")
        for table, concerned in _joined(found).items()
        if table.rows
    ]


def select_metrics(results: Sequence[Result], metrics: Sequence[str]) -> list[str]:
    """Return the metric keys that the names select, without duplicates."""
    if not metrics:
        selected = headlines(results)
        if not selected:
            raise ConfigError(
                f"{', '.join(result.label for result in results)}: no result has a metric to "
                "compare; name finished runs or evaluations"
            )
        return selected
    known = measured(results)
    selected = []
    for metric in metrics:
        matching = [key for key in known if metric in (key, key.partition("/")[2])]
        if not matching:
            choices = sorted({key.partition("/")[2] for key in known if "/iou/" not in key})
            raise ConfigError(f"--metric {metric}: no result has it; {nearest(metric, choices)}")
        selected += matching
    return list(dict.fromkeys(selected))


def _outside(number: float | None, interval: Interval | None) -> bool:
    """Return True if a number is outside its interval."""
    return number is not None and interval is not None and not interval.holds(number)


def _joined(pairs: Iterable[tuple[Key, str]]) -> dict[Key, str]:
    """Return each key -> its texts, joined with commas."""
    groups: dict[Key, list[str]] = defaultdict(list)
    for key, text in pairs:
        groups[key].append(text)
    return {key: ", ".join(dict.fromkeys(texts)) for key, texts in groups.items()}


def _notes(results: Sequence[Result], columns: Sequence[Column]) -> list[str]:
    commits = sorted({result.commit for result in results})
    notes = [f"The code differs: commits {', '.join(commits)}."] if len(commits) > 1 else []
    notes += dict.fromkeys(run_notes(results))
    substituted = _joined((result.substituted_init, result.label) for result in results)
    notes += [f"{init}: {labels}." for init, labels in substituted.items() if init]
    missing = _joined(
        (result.label, column.title)
        for result in results
        for column in columns
        if not column.distinction and result.label not in column.scores
    )
    notes += [f"{label}: no result of {titles}." for label, titles in missing.items()]
    for column in columns:
        reasons = _joined(
            (result.why_no_interval(column.metric), label)
            for label, result in column.results.items()
            if column.scores[label].over_images is None
        )
        notes += [
            f"{labels}: no interval of {column.title}, {reason}."
            for reason, labels in reasons.items()
        ]
        notes += unpaired(column.scores, column.against)
        notes += [
            f"{label}: {column.title} lies outside its interval, which corrects the bias of few "
            "images."
            for label, score in column.scores.items()
            if _outside(score.mean, score.over_images)
            or _outside(score.difference, score.difference_over_images)
        ]
    return notes
