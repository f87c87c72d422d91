"""Records as read from disk, checked for what a run or an evaluation writes.  Nothing heavy is imported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.runs.finding import find_run
from gestalt.runs.names import RESULT

FORMAT = 2  # of the record, raised when its meaning changes; 1 lacks confusion matrices and the hashes of files, templates and arrays
NEEDED = {"metrics": dict, "benchmarks": list, "provenance": dict, "config": dict}


def result_paths(target: str, *, evaluations: bool) -> list[Path]:
    """Return the files of the results that a target names.

    Args:
        target: a JSON file, a run's folder, or an experiment's name for its newest finished plain run.
        evaluations: True to add the evaluations of the run.

    Raises:
        ConfigError: the target has no result.
    """
    if Path(target).is_file():
        return [Path(target)]
    scored = evaluations_in(Path(target))
    if scored and not (Path(target) / RESULT).is_file():  # those of label maps, of another library's model or of an unfinished run
        raise ConfigError(f"{target}: holds evaluations, but no {RESULT} of a finished run; name evaluations, such as {scored[-1]}")
    expected = "neither a result's JSON, nor the folder of a finished run, nor an experiment with one; finished runs"
    run = find_run(target, holding=Path(RESULT), expected=expected)
    return [run / RESULT, *(evaluations_in(run) if evaluations else ())]


def evaluations_in(folder: Path) -> list[Path]:
    """Return the records of evaluations in a folder, in order; those under way, which are empty, are left out."""
    files = sorted((folder / "evaluations").glob("*.json"), key=lambda file: (len(file.name), file.name))
    return [file for file in files if file.stat().st_size]


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON of a run or an evaluation.

    Raises:
        ConfigError: the file holds something else, or was written by a newer version.
    """
    try:
        record: Any = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not the JSON of a run or an evaluation ({error})") from error
    missing = [key for key in NEEDED if not isinstance(record, dict) or key not in record]
    if missing:
        raise ConfigError(f"{path}: not the result of a run or an evaluation, it has no {', '.join(missing)}")
    if record.get("format", 0) > FORMAT:
        raise ConfigError(f"{path}: format {record['format']}, this version reads 1 to {FORMAT}; read it with the version that wrote it")
    _refuse_other_kinds(path, record)
    return dict(record)


def _refuse_other_kinds(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a file whose values have types that Gestalt does not write."""
    wrong = [key for key, kind in NEEDED.items() if not isinstance(record[key], kind)]
    if not wrong:
        wrong += [f"benchmarks[{number}]" for number, entry in enumerate(record["benchmarks"]) if not isinstance(entry, dict)]
        wrong += [f"metrics.{key}" for key, value in record["metrics"].items() if not isinstance(value, int | float | None)]
    if wrong:
        raise ConfigError(f"{path}: its {wrong[0]} is not what a run or an evaluation writes; the file was edited, so evaluate again")
