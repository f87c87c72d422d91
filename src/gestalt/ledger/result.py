"""Results as read from disk: a record, and the arrays beside it, checked by the hashes in the record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gestalt.config.schema import ConfigError
from gestalt.evaluation.predictions import EXTREMES, Predictions, read_arrays, read_predictions
from gestalt.ledger.bootstrap import Contribution, contribution
from gestalt.ledger.reading import read_record, result_paths
from gestalt.ledger.statistics import Interval
from gestalt.runs.names import RESULT
from gestalt.support.files import file_hash

HEADLINES = ("miou", "matched_miou", "jaccard", "accuracy", "adjusted_accuracy", "worst_group", "top_5", "recall_at_10")
"""Metrics that get a table, where a result has them; the others stay in its record."""


@dataclass(frozen=True)
class Result:
    """The score of a run, or of one evaluation of it.

    Attributes:
        label: its name in tables and messages.
        path: the JSON file.
        record: the content of that file.
    """

    label: str
    path: Path
    record: dict[str, Any]

    @property
    def is_evaluation(self) -> bool:
        """True for an evaluation, False for the run's own score."""
        return self.path.name != RESULT

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.path.parents[1] if self.is_evaluation else self.path.parent

    @property
    def commit(self) -> str:
        """Commit of the code; ``unknown`` if it was not recorded."""
        return str(self.record["provenance"].get("commit", "unknown"))

    @property
    def substituted_init(self) -> str:
        """The requested image init and the one used instead; empty if they are the same."""
        init = self.record.get("image_init", {})
        return f"image.init asked {init['asked']}, used {init['used']}" if init.get("asked") != init.get("used") else ""

    def value(self, metric: str) -> float | None:
        """Return a metric by its key; None if it was not measured."""
        value = self.record["metrics"].get(metric)
        return None if value is None else float(value)

    def entries(self, metric: str) -> list[dict[str, Any]]:
        """Return the record's entries on how a metric was measured; all entries of its set if none lists it, as for single classes."""
        image_set = metric.partition("/")[0]
        entries = [entry for entry in self.record["benchmarks"] if entry["set"] == image_set and "left_out" not in entry]
        return [entry for entry in entries if metric in entry.get("metric_keys", [metric])] or entries

    def entry(self, metric: str) -> dict[str, Any]:
        """Return the first of these entries; empty if there is none."""
        return next(iter(self.entries(metric)), {})

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a set; empty if none were kept.

        Raises:
            ConfigError: the file is not the one whose hash the record has.
        """
        path, sha256 = self._arrays_path(name)
        if sha256 is not None and not path.is_file():
            raise ConfigError(f"{path}: not found, but {self.path} was written with it; evaluate again, or restore the file")
        if sha256 is not None and file_hash(path) != sha256:
            raise ConfigError(f"{path}: not the file that {self.path} was written with; evaluate again, or restore the file")
        return read_arrays(path)

    def _arrays_path(self, name: str) -> tuple[Path, str | None]:
        """Return the path of a set's arrays, and their hash if the record has it."""
        named = self.record.get("arrays", {}).get(name)
        if named is not None:
            return self.path.parent / named["file"], named["sha256"]
        return (self.path.with_suffix("") if self.is_evaluation else self.run / "per_image") / f"{name}.npz", None

    def extremes(self, name: str) -> Predictions | None:
        """Return the best, then the worst images of a set, with their predictions; None if none were kept."""
        return read_predictions((self.path.with_suffix("") if self.is_evaluation else self.run) / EXTREMES / f"{name}.npz")

    def interval(self, metric: str) -> Interval | None:
        """Return the 95 % interval of a metric over images; None if there is none, for the reason ``why_no_interval``."""
        contribution = self.contribution(metric)
        return None if contribution is None else contribution.interval(contribution.samples())

    def why_no_interval(self, metric: str) -> str:
        """Return the reason for which a metric has no interval, for a note."""
        contribution = self.contribution(metric)
        return "no arrays of each image were kept" if contribution is None else contribution.reason

    def contribution(self, metric: str) -> Contribution | None:
        """Return what each image contributed to a metric; None if no arrays were kept.

        Raises:
            ConfigError: the arrays do not belong to the record.
        """
        name, value = metric.partition("/")[0], self.value(metric)
        if value is None:
            return None
        return contribution(self.arrays(name), metric, entry=self.entry(metric), value=value, path=self._arrays_path(name)[0])


def headlines(results: Sequence[Result]) -> list[str]:
    """Return the metrics of ``HEADLINES`` that any result has, in the order of the benchmarks."""
    return headlines_of(dict.fromkeys(key for result in results for key, value in result.record["metrics"].items() if value is not None))


def headlines_of(measured: Iterable[str]) -> list[str]:
    """Return those of ``HEADLINES`` among the keys of metrics, in the order of the benchmarks."""
    measured = list(measured)
    image_sets = dict.fromkeys(key.partition("/")[0] for key in measured)
    return [f"{name}/{metric}" for name in image_sets for metric in HEADLINES if f"{name}/{metric}" in measured]


def companions(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return the baselines of a metric, ``<metric>_<name>``, by name.

    A key that has baselines itself is another metric; it is left out with its baselines.
    """
    longer = {key.removeprefix(f"{metric}_"): value for key, value in metrics.items() if key.startswith(f"{metric}_") and value is not None}
    other_metrics = [name for name in longer if any(key.startswith(f"{name}_") for key in longer)]
    return {name: float(value) for name, value in longer.items() if not any(f"{name}_".startswith(f"{key}_") for key in other_metrics)}


def run_seconds(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of a run for training, validation and other; older records have one number, which goes under ``other``."""
    seconds = record.get("seconds", record.get("seconds_since_start_or_resume", 0.0))
    return dict(seconds) if isinstance(seconds, dict) else {"training": 0.0, "validation": 0.0, "other": float(seconds)}


def read_result(path: Path) -> Result:
    """Read a result's JSON; raises as ``read_record``."""
    record = read_record(path)
    return Result(_label(path, record), path, record)


def read_results(targets: Sequence[str], *, evaluations: bool = False) -> list[Result]:
    """Read the results that the targets name, in order, each once, with different labels.

    Args:
        targets: a JSON file, a run's folder, or an experiment's name for its newest finished plain run.
        evaluations: True to add the evaluations of each run.

    Raises:
        ConfigError: a target has no result; or as ``read_record``.
    """
    paths = [path for target in targets for path in result_paths(target, evaluations=evaluations)]
    results = [read_result(path) for path in dict.fromkeys(path.resolve() for path in paths)]
    labels, runs = [result.label for result in results], [(result.label, result.run) for result in results]
    places = [result.run if runs.count((result.label, result.run)) == 1 else result.path for result in results]
    return [
        result if labels.count(result.label) == 1 else replace(result, label=f"{result.label} ({place})")
        for result, place in zip(results, places, strict=True)
    ]


def _label(path: Path, record: Mapping[str, Any]) -> str:
    """Return experiment, scale and version, and the number of an evaluation."""
    result = Result("", path.resolve(), {})
    name = record.get("name", result.run.name)  # of the system whose label maps were scored
    words = [record.get("experiment"), record.get("scale"), name, f"evaluation {path.stem}" if result.is_evaluation else None]
    return " ".join(str(word) for word in words if word)
