"""Find the run, or its checkpoint, that a word of the command line names.  Nothing heavy is
imported.

A name means the newest run of an experiment that is finished and plain; a folder means the run in
it, whatever its state.
"""

import json
from pathlib import Path
from typing import Any

from gestalt.config.folders import EXPERIMENTS, LOGS
from gestalt.config.loading import load
from gestalt.config.saved import load_saved
from gestalt.config.schema import NOT_HASHED, Experiment, hashed_keys
from gestalt.models.names import (
    CHECKPOINT,
    RESULT,
    config_of,
    exported_folder,
    external_name,
    is_finished,
    is_hub_name,
    progress,
    record_of,
    run_of,
)
from gestalt.models.zoo.kinds import check_name, how_to_open
from gestalt.support.names import few
from gestalt.support.typed import ConfigError

PLAIN_KEYS = ("seed", "data.root", "benchmark_subset", "evaluation.")
"""Prefixes of the hashed keys in which a run may differ from its experiment and still be plain:
another draw, other places and scores.
"""


def resolve_checkpoint(target: str, *, to_resume: bool = False) -> Path:
    """Return the checkpoint that a target means.

    Args:
        target: a checkpoint, the folder of a run or above a single one, or an experiment's name,
            for its newest finished plain run.
        to_resume: True if another library's model cannot be meant.

    Raises:
        ConfigError: no such run or checkpoint, or several; the message has the fix.
    """
    path = Path(target)
    if path.is_file():
        return path
    more = "" if to_resume or not path.is_dir() else f"{how_to_open(target)}; "
    expected = (
        f"neither a checkpoint, nor a run's folder, nor an experiment with one; {more}runs here"
    )
    return find_run(target, holding=CHECKPOINT, expected=expected) / CHECKPOINT


def find_run(target: str, *, holding: Path, expected: str) -> Path:
    """Return the run that a folder or an experiment's name means.

    Args:
        target: the folder of a run, a folder above a single one, or an experiment's name, for its
            newest finished plain run at any scale.
        holding: a file that the run must hold, in its folder.
        expected: beginning of the message if nothing has that name; the runs that hold the file
            follow it.

    Raises:
        ConfigError: no run; several in the folder; or a name all of whose runs are unfinished or
            variants.  The message has the fix.
    """
    folder = Path(target)
    if folder.is_dir():
        found = _holders(folder, holding)
        if folder in found:
            return folder
        if len(found) > 1:
            names = few(target, list(map(str, found)))
            raise ConfigError(f"{target}: holds {len(found)} runs; name one of {names}")
        if not found:
            raise ConfigError(f"{target}: {expected}: {_nearest_holders(target, holding)}")
        return found[0]
    runs = _runs_below(LOGS / target)
    run = next((run for run in reversed(runs) if is_finished(run) and not variations(run)), None)
    if run is None:
        raise ConfigError(f"{target}: {_why_none(target, runs, holding, expected)}")
    if not (run / holding).is_file():
        raise ConfigError(
            f"{target}: its newest finished run, {run}, has lost its {holding}; name another folder"
        )
    return run


def variations(folder: Path) -> list[str]:
    """Return what makes a run a variant of its experiment, as ``key=value``: changes of what is
    trained, by ``PLAIN_KEYS``.

    Where the experiment or its scale is a file of the user's, or the saved configuration does not
    fit the schema, these are the overrides that a finished run has recorded.
    """
    try:
        saved = load_saved(folder / "config.yaml")
        overrides = ["evaluation.benchmarks=[]"]  # those of some scales need a root
        if saved.data.root is not None:
            overrides.append(f"data.root={json.dumps(saved.data.root)}")
        experiment = load(saved.name, scale=saved.scale, overrides=overrides)
    except ConfigError:
        words = (record_of(folder / RESULT) or {}).get("overrides", [])
    else:
        changes = differences(saved, experiment)
        words = [f"{key}={value}" for key, (value, _) in changes.items()]
    return [
        word
        for word in words
        if word.startswith("evaluation.split=")  # tuned, on images that are not reported
        or not (word.startswith(PLAIN_KEYS) or word.partition("=")[0] in NOT_HASHED)
    ]


def differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the hashed keys in which two configurations differ, sorted, with both values."""
    first = hashed_keys(one)
    second = hashed_keys(other)
    return {
        key: (first.get(key), second.get(key))
        for key in sorted(first | second)
        if first.get(key) != second.get(key)
    }


def _holders(root: Path, file: Path) -> list[Path]:
    """Return the folders below ``root`` that hold the file."""
    return [path.parents[len(file.parts) - 1] for path in root.glob(f"**/{file}")]


def _runs_below(root: Path) -> list[Path]:
    """Return the runs that have a checkpoint or a record, from the oldest to the newest by the time
    of the record, or of the checkpoint.
    """

    def time(run: Path) -> int:
        return (run / RESULT if (run / RESULT).is_file() else run / CHECKPOINT).stat().st_mtime_ns

    return sorted(
        {run for file in (CHECKPOINT, Path(RESULT)) for run in _holders(root, file)}, key=time
    )


def _why_none(name: str, runs: list[Path], holding: Path, expected: str) -> str:
    """Return why a name means none of the runs that lie under it, and the fix."""
    if runs:
        newest = runs[-1]
        state = "is finished" if is_finished(newest) else f"is at {progress(newest / CHECKPOINT)}"
        fix = f"continue it with its overrides and resume={newest}"
        varied = variations(newest)
        if varied:
            state += f" and has {' '.join(varied)}"
            fix = "train the experiment without overrides"
        if (newest / holding).is_file():
            fix += ", or name that folder"
        return f"no plain run of it is finished; the newest, {newest}, {state}; {fix}"
    experiment, *scale = Path(name).parts[:2]
    if (EXPERIMENTS / f"{experiment}.yaml").is_file():
        command = " --scale ".join((experiment, *scale))
        return f"this experiment has no run here; train it with `gestalt train {command}`"
    return f"{expected}: {_nearest_holders(name, holding)}"


def _nearest_holders(target: str, holding: Path) -> str:
    """Return the runs here that hold the file, for a message, nearest to the target first."""
    return few(target, [str(run) for run in _holders(LOGS, holding)]) or "none"


def check_target(target: str) -> Path | None:
    """Check that a model exists, and the configuration of a run.  Returns the checkpoint of a run,
    or one that a Trainer wrote elsewhere; None for any other model.

    Raises:
        ValueError: a target that names nothing, or a configuration that does not fit the schema.
    """
    external = external_name(target)
    if external is not None:
        check_name(*external)
    elif not (is_hub_name(target) or exported_folder(target)):
        checkpoint = resolve_checkpoint(target)
        if run := run_of(checkpoint):  # else it is in the checkpoint, which torch reads
            config_of(checkpoint, run)
        return checkpoint
    return None
