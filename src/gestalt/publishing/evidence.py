"""The records that belong to the weights of a checkpoint: a model card states these and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.config.loading import load_saved
from gestalt.results.intervals import Interval
from gestalt.results.record import commit, package_version
from gestalt.results.result import HEADLINES, Result, read_result
from gestalt.runs.names import RESULT, run_folder
from gestalt.runs.progress import progress


class Evidence(NamedTuple):
    """Records of a run.

    Attributes:
        steps: number of training steps at the checkpoint.
        planned: number of steps of the whole run; None if it is not known.
        run: the run's own record; None if it is not finished.
        results: records whose weights are the checkpoint's; none for untrained weights.
        weights: hash of the weights.
    """

    steps: int
    planned: int | None
    run: dict[str, Any] | None
    results: list[Result]
    weights: str


class Measurement(NamedTuple):
    """A headline metric of a record.

    Attributes:
        metric: its key.
        value: its value in the record.
        interval: its 95 % interval over images; None if the contributions of images were not kept.
        entry: entry of the record, on how it was measured.
        result: the record.
    """

    metric: str
    value: float
    interval: Interval | None
    entry: Mapping[str, Any]
    result: Result


def gather(checkpoint: Path, *, weights: str) -> Evidence:
    """Return the records of a checkpoint's run that were made with its weights.

    Raises:
        ValueError: a record that was edited or is of a newer version, or a checkpoint that cannot be read.
    """
    folder = run_folder(checkpoint)
    steps, planned = progress(checkpoint)
    evaluations = sorted((folder / "evaluations").glob("*.json"), key=lambda file: (len(file.name), file.name))
    paths = [path for path in (folder / RESULT, *evaluations) if path.is_file() and path.stat().st_size]
    results = [read_result(path) for path in paths]
    run = next((result.record for result in results if not result.is_evaluation), None)
    own = [result for result in results if result.record.get("weights_sha256") == weights]
    return Evidence(steps or 0, planned, run, own if steps else [], weights)


def measurements(evidence: Evidence) -> list[Measurement]:
    """Return the headline metrics of the records; of several measurements of one kind, such as two evaluations alike, the last."""
    kept: dict[tuple[Any, ...], Measurement] = {}
    for result in evidence.results:
        names = dict.fromkeys(key.partition("/")[0] for key in result.record["metrics"])
        for metric in (f"{name}/{headline}" for name in names for headline in HEADLINES):
            value, entry = result.value(metric), result.entry(metric)
            if value is not None and entry:
                kind = (metric, entry.get("protocol", {}).get("digest"), entry.get("images"), entry.get("label_set"))
                kept[kind] = Measurement(metric, value, result.interval(metric), entry, result)
    return list(kept.values())


def provenance_of(evidence: Evidence, *, checkpoint: Path) -> dict[str, Any]:
    """Return what an exported folder says of its weights: what made them, from what, and what exported them."""
    folder = run_folder(checkpoint)
    config = load_saved(folder / "config.yaml")
    run = evidence.run or {}
    made = run.get("provenance", {})
    packages = {name: version for name, version in made.get("packages", {}).items() if version != "not installed"}
    data = {key: run["data"][key] for key in ("digest", "samples") if key in run.get("data", {})}
    return {
        **{"experiment": config.name, "scale": config.scale, "seed": config.seed, "config_hash": run.get("config_hash")},
        **{"commit": made.get("commit"), "packages": packages, "steps": evidence.steps, "steps_planned": evidence.planned},
        **{"seconds": run.get("seconds"), "tokens_kept": run.get("tokens_kept"), "data": data},
        **{"run": f"{config.name}/{config.scale}/{folder.name}", "checkpoint": checkpoint.name, "weights_sha256": evidence.weights},
        "exported_by": {"gestalt": package_version("gestalt-grouping"), "commit": commit()},
    }
