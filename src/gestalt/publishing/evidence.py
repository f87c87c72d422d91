"""The records that belong to the weights of a checkpoint: a model card states these and nothing
else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.config.schema import Experiment
from gestalt.results.intervals import Interval
from gestalt.results.reading import read_result
from gestalt.results.record import commit, evaluations_in, package_version
from gestalt.results.result import Result, headlines
from gestalt.runs.names import RESULT, in_run
from gestalt.runs.progress import progress


class Evidence(NamedTuple):
    """Records of a run.

    Attributes:
        steps: number of training steps at the checkpoint.
        planned: number of steps of the whole run; None if it is not known.
        run: the run's own record; empty if it is not finished.
        results: records whose weights are the checkpoint's; none for untrained weights.
        weights: hash of the weights.
    """

    steps: int
    planned: int | None
    run: dict[str, Any]
    results: list[Result]
    weights: str


class Measurement(NamedTuple):
    """A headline metric of a record.

    Attributes:
        metric: its key.
        value: its value in the record.
        interval: its 95 % interval over images; None as ``Result.interval``.
        entry: entry of the record, on how it was measured.
        split: the split that was requested; None for the set's default, on which results are
            published.
        commit: commit of the code.
    """

    metric: str
    value: float
    interval: Interval | None
    entry: Mapping[str, Any]
    split: str | None
    commit: str


def gather(checkpoint: Path, *, weights: str) -> Evidence:
    """Return the records of a checkpoint's run that were made with its weights.

    Raises:
        ValueError: a record that was edited or is of a newer version, or a checkpoint that cannot
            be read.
    """
    steps, planned = progress(checkpoint)
    folder = checkpoint.resolve().parents[1]
    paths = (folder / RESULT, *evaluations_in(folder)) if in_run(checkpoint) else ()
    results = [read_result(path) for path in paths if path.is_file()]
    run = next((result.record for result in results if not result.is_evaluation), {})
    matching = [result for result in results if result.record.get("weights_sha256") == weights]
    return Evidence(steps or 0, planned, run, matching if steps else [], weights)


def measurements(evidence: Evidence) -> list[Measurement]:
    """Return the headline metrics of the records; of several measurements of one kind, such as two
    equal evaluations, the last.
    """
    last = {}
    for result in evidence.results:
        split = result.record["config"].get("evaluation", {}).get("split")
        for metric in headlines([result]):
            value, entry = result.value(metric), result.entry(metric)
            if value is not None and entry:
                known = (entry.get(key) for key in ("images", "label_set", "benchmark_hash"))
                kind = metric, entry["protocol"]["digest"], *known
                last[kind] = Measurement(
                    metric, value, result.interval(metric), entry, split, result.commit
                )
    return list(last.values())


def provenance_of(evidence: Evidence, config: Experiment, *, checkpoint: Path) -> dict[str, Any]:
    """Return the provenance written to an exported folder: what made its weights, from what, and
    what exported them.
    """
    run = evidence.run
    provenance = run.get("provenance", {})
    return {
        "experiment": config.name,
        "scale": config.scale,
        "seed": config.seed,
        "config_hash": run.get("config_hash"),
        "commit": provenance.get("commit"),
        "packages": {
            name: version
            for name, version in provenance.get("packages", {}).items()
            if version != "not installed"
        },
        "steps": evidence.steps,
        "steps_planned": evidence.planned,
        "seconds": run.get("seconds"),
        "tokens_kept": run.get("tokens_kept"),
        "data": {
            key: run["data"][key] for key in ("digest", "samples") if key in run.get("data", {})
        },
        "run": f"{config.name}/{config.scale}/{checkpoint.resolve().parents[1].name}",
        "checkpoint": checkpoint.name,
        "weights_sha256": evidence.weights,
        "exported_by": {"gestalt": package_version("gestalt-grouping"), "commit": commit()},
    }
