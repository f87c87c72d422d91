"""A result as it was written: the record, and the arrays beside it, whose hashes it names.  N images, C classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gestalt.config.loading import LOGS
from gestalt.config.schema import ConfigError
from gestalt.evaluation.predictions import EXTREMES, Predictions, read_arrays, read_predictions
from gestalt.ledger.contributions import Contribution, contribution
from gestalt.ledger.per_image import file_hash
from gestalt.ledger.record import FORMAT
from gestalt.runs.names import newest_run, only_run

HEADLINES = ("miou", "matched_miou", "jaccard", "accuracy", "adjusted_accuracy", "worst_group", "top_5", "recall_at_10")
"""The metrics that get a table, where a result has them; the rest stays in its record."""

RESULT = "result.json"
"""A run's own score; ``evaluations/<n>.json`` beside it are further ones."""

NEEDED = {"metrics": dict, "benchmarks": list, "provenance": dict, "config": dict}


@dataclass(frozen=True)
class Result:
    """A run's own score, or one evaluation of it.

    Attributes:
        label: what people call it.
        path: its JSON.
        record: what that says.
    """

    label: str
    path: Path
    record: dict[str, Any]

    @property
    def _of_run(self) -> bool:
        return self.path.name == RESULT

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.path.parent if self._of_run else self.path.parents[1]

    def value(self, metric: str) -> float | None:
        """A metric by its key; None where it was not measured."""
        value = self.record["metrics"].get(metric)
        return None if value is None else float(value)

    def entries(self, metric: str) -> list[dict[str, Any]]:
        """What the record says of how a metric came about; all of its set where no entry lists it, as of single classes."""
        return entries_of(self.record, metric)

    def headlines(self) -> list[str]:
        """The metrics that get a table, in the order of the record's benchmarks, each benchmark's in the order of ``HEADLINES``."""
        keys = [key for key, value in self.record["metrics"].items() if value is not None]
        sets = dict.fromkeys(key.partition("/")[0] for key in keys)
        return [f"{name}/{what}" for name in sets for what in HEADLINES if f"{name}/{what}" in keys]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of a set; nothing where none were kept.

        Raises:
            ConfigError: they are not the ones that the record was written with.
        """
        path, said = self._arrays_path(name)
        if said is not None and (not path.is_file() or file_hash(path) != said):
            state = "is another file than the one" if path.is_file() else "is missing, a file"
            raise ConfigError(f"{path}: {state} that {self.path} was written with; evaluate again, or bring the file back")
        return read_arrays(path)

    def _arrays_path(self, name: str) -> tuple[Path, str | None]:
        """Where they lie, and their hash where the record names it."""
        named = self.record.get("arrays", {}).get(name)
        if named is not None:
            return self.path.parent / named["file"], named["sha256"]
        return (self.run / "per_image" if self._of_run else self.path.with_suffix("")) / f"{name}.npz", None

    def extremes(self, name: str) -> Predictions | None:
        """The best and then the worst images of a set, with their predictions; None where none were kept."""
        return read_predictions((self.run if self._of_run else self.path.with_suffix("")) / EXTREMES / f"{name}.npz")

    def contribution(self, metric: str) -> Contribution | None:
        """What each image contributed to a metric; None where nothing was kept.

        Raises:
            ConfigError: the arrays are not the record's.
        """
        name, value = metric.partition("/")[0], self.value(metric)
        if value is None:
            return None
        entry, path = entry_of(self.record, metric), self._arrays_path(name)[0]
        return contribution(self.arrays(name), metric, entry=entry, value=value, path=path)


def entries_of(record: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """What a record says of how a metric came about; all of its set where no entry lists it, as of single classes."""
    of_set = [entry for entry in record["benchmarks"] if entry["set"] == metric.partition("/")[0] and "left_out" not in entry]
    return [entry for entry in of_set if metric in entry.get("metric_keys", [metric])] or of_set


def entry_of(record: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """The first of them; empty where there is none."""
    return next(iter(entries_of(record, metric)), {})


def companions(metrics: Mapping[str, Any], metric: str) -> dict[str, float]:
    """What a metric stands beside, ``<metric>_<name>``, by name; what has companions of its own is a metric, and they are no companions."""
    beside = {key.removeprefix(f"{metric}_"): value for key, value in metrics.items() if key.startswith(f"{metric}_") and value is not None}
    own = [name for name in beside if any(other.startswith(f"{name}_") for other in beside)]
    return {name: float(value) for name, value in beside.items() if not any(f"{name}_".startswith(f"{other}_") for other in own)}


def read_result(path: Path) -> Result:
    """Read a result's JSON.

    Raises:
        ConfigError: it holds something else, or was written by a newer program.
    """
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not the JSON that a run or an evaluation writes ({error})") from error
    lacking = [key for key in NEEDED if not isinstance(record, dict) or key not in record]
    if lacking:
        raise ConfigError(f"{path}: no result of a run or an evaluation, it has no {', '.join(lacking)}")
    if record.get("format", 0) > FORMAT:
        raise ConfigError(f"{path}: format {record['format']}, this program knows 1 to {FORMAT}; read it with the program that wrote it")
    _refuse_other_kinds(path, record)
    return Result(_label(path, record), path, record)


def _refuse_other_kinds(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a file that was changed into what no program writes."""
    wrong = [key for key, kind in NEEDED.items() if not isinstance(record[key], kind)]
    if not wrong:
        wrong += [f"benchmarks[{number}]" for number, entry in enumerate(record["benchmarks"]) if not isinstance(entry, dict)]
        wrong += [f"metrics.{key}" for key, value in record["metrics"].items() if not isinstance(value, int | float | None)]
    if wrong:
        raise ConfigError(f"{path}: its {wrong[0]} is not what a run or an evaluation writes; it was changed, so measure again")


def read_results(targets: Sequence[str], *, evaluations: bool = False) -> list[Result]:
    """The results that the targets mean, in order, each once, with different labels.

    Args:
        targets: a JSON, a run's folder, or an experiment's name for its newest run.
        evaluations: of a run take its evaluations too.

    Raises:
        ConfigError: a target means nothing; or as ``read_result``.
    """
    paths = [path for target in targets for path in _paths(target, evaluations=evaluations)]
    results = [read_result(path) for path in dict.fromkeys(path.resolve() for path in paths)]
    labels = [one.label for one in results]
    return [one if labels.count(one.label) == 1 else Result(f"{one.label} ({one.run})", one.path, one.record) for one in results]


def _paths(target: str, *, evaluations: bool) -> list[Path]:
    path = Path(target)
    if path.is_file():
        return [path]
    named = not path.is_dir()
    folder = LOGS / target if named else path
    found = sorted(folder.glob(f"**/{RESULT}"), key=lambda file: file.stat().st_mtime)
    if not found:
        known = sorted({str(file.parent) for file in LOGS.glob(f"**/{RESULT}")})
        raise ConfigError(
            f"{target}: neither a result's JSON, nor a finished run's folder, nor an experiment with one; "
            f"finished runs here: {', '.join(known) or 'none'}"
        )
    run = (newest_run if named else only_run)(target, [file.parent for file in found])
    further = sorted((run / "evaluations").glob("*.json"), key=lambda file: (len(file.name), file.name))
    return [run / RESULT, *(file for file in further if evaluations and file.stat().st_size)]


def _label(path: Path, record: Mapping[str, Any]) -> str:
    """Experiment, scale, version; and which evaluation."""
    whole = path.name == RESULT
    version = path.resolve().parent.name if whole else path.resolve().parents[1].name
    words = [record.get("experiment"), record.get("scale"), version, None if whole else f"evaluation {path.stem}"]
    return " ".join(str(word) for word in words if word)
