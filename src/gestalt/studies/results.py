"""The results of a grid side by side, and what forbids it: only what was measured in the same way shares a column."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.config.schema import ConfigError
from gestalt.evaluation.predictions import read_arrays
from gestalt.ledger.alike import BENCHMARK, truth_pixels
from gestalt.ledger.contributions import Contribution, contribution
from gestalt.ledger.result import HEADLINES, entry_of
from gestalt.studies.cells import State

STARTS_FROM = ("backbone", "family", "patch_size", "width", "depth", "heads", "stem", "init", "inits", "weights")
"""The keys of ``image`` that decide what weights an image tower starts from."""


class Scored(NamedTuple):
    """One finished run, or one evaluation of it."""

    cell: str
    seed: int
    folder: Path
    record: dict[str, Any]
    arrays: Path

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.cell} seed {self.seed}"


@dataclass(frozen=True)
class View:
    """All runs of a grid, scored in one way.

    Attributes:
        name: empty for what the runs themselves report, else what was changed in the evaluation.
        scored: by cell and seed.
    """

    name: str
    scored: dict[tuple[str, int], Scored] = field(default_factory=dict)

    def add(self, cell: str, seed: int, *, state: State) -> None:
        """Take a finished run."""
        assert state.folder is not None
        assert state.record is not None
        assert state.arrays is not None
        self.scored[cell, seed] = Scored(cell, seed, state.folder, state.record, state.arrays)

    def of(self, cell: str, metric: str) -> dict[int, Scored]:
        """A cell's runs that have the metric, by seed."""
        return {seed: one for (name, seed), one in self.scored.items() if name == cell and one.record["metrics"].get(metric) is not None}

    def metrics(self) -> list[str]:
        """Those that get a table, in the order of the runs' benchmarks, each benchmark's headlines in their order."""
        keys = list(dict.fromkeys(key for one in self.scored.values() for key in one.record["metrics"]))
        sets = list(dict.fromkeys(key.partition("/")[0] for key in keys))
        return [f"{name}/{what}" for name in sets for what in HEADLINES if f"{name}/{what}" in keys]


def mixed(view: View, metric: str) -> list[str]:
    """What differs among the runs of a column and must not; one sentence each, empty where all were measured alike."""
    runs = [one for one in view.scored.values() if one.record["metrics"].get(metric) is not None]
    image_set = metric.partition("/")[0]
    rules: dict[str, Callable[[Scored], str]] = {
        "protocol": lambda one: protocol_hash(one.record, image_set),
        "benchmark": lambda one: benchmark_hash(one.record, image_set),
        "commit": lambda one: str(one.record["provenance"]["commit"]),
    }
    found = [sentence for what, rule in rules.items() if (sentence := _differs(what, runs, rule))]
    starts: dict[str, list[Scored]] = {}
    for one in runs:
        starts.setdefault(_start(one.record), []).append(one)
    for alike in starts.values():
        sentence = _differs(f"weights used for image.init={alike[0].record['config']['image']['init']}", alike, _used)
        found += [sentence] if sentence else []
    return found


def refuse_mixed(view: View, metric: str, *, allow_mixed: bool) -> list[str]:
    """What differs, as notes for the table, where that is allowed.

    Raises:
        ConfigError: it is not.
    """
    found = mixed(view, metric)
    if found and not allow_mixed:
        raise ConfigError(
            f"{metric} has no table, its runs are not comparable: {'; '.join(found)}; move the folders of those that are to run anew "
            "and call again, or say --allow-mixed"
        )
    return found


def protocol_hash(record: dict[str, Any], image_set: str) -> str:
    """8 digits over the digests of all protocols that a set was scored by."""
    return _digest(
        sorted(entry["protocol"]["digest"] for entry in record["benchmarks"] if entry["set"] == image_set and "protocol" in entry)
    )


def benchmark_hash(record: dict[str, Any], image_set: str) -> str:
    """8 digits over what was measured on: classes, number of images, split, and how many pixels of each class the truth has."""
    parts: list[Any] = []
    for entry in record["benchmarks"]:
        if entry["set"] == image_set:
            parts.append([{key: entry[key] for key in (*BENCHMARK, "train_groups") if key in entry}, truth_pixels(entry)])
    evaluation = record["config"]["evaluation"]
    return _digest([parts, evaluation["split"], evaluation["limit"]])


def contribution_of(one: Scored, metric: str) -> Contribution | None:
    """What each image contributed; None where the run kept nothing of them.

    Raises:
        ConfigError: they do not come to the number that the record says.
    """
    path = one.arrays / f"{metric.partition('/')[0]}.npz"
    entry, value = entry_of(one.record, metric), one.record["metrics"][metric]
    return contribution(read_arrays(path), metric, entry=entry, value=value, path=path)


def run_seconds(record: dict[str, Any]) -> dict[str, float]:
    """Where a run's time went: training, validation, other; all of it under ``other`` for a record that does not say."""
    seconds = record.get("seconds", record.get("seconds_since_start_or_resume", 0.0))
    return dict(seconds) if isinstance(seconds, dict) else {"training": 0.0, "validation": 0.0, "other": float(seconds)}


def _differs(what: str, runs: list[Scored], rule: Callable[[Scored], str]) -> str:
    """Values with the runs that have them, where there is more than one."""
    values: dict[str, list[str]] = {}
    for one in runs:
        values.setdefault(rule(one), []).append(one.label)
    if len(values) < 2:
        return ""
    shown = [f"{value} in {labels[0]}" + (f" and {len(labels) - 1} more" if labels[1:] else "") for value, labels in values.items()]
    return f"{what} is {', '.join(shown)}"


def _start(record: dict[str, Any]) -> str:
    """What must lead to the same first weights: architecture, init, and how an init is made."""
    config = record["config"]
    made_from = [config["data"]["source"], config["data"]["recipe"], config["trainer"]["precision"], config.get("pretraining")]
    return json.dumps([{key: config["image"].get(key) for key in STARTS_FROM}, made_from], sort_keys=True)


def _used(one: Scored) -> str:
    """The init that a run really had, and a part of its file's hash."""
    init = one.record["image_init"]
    return f"{init['used']} {str(init.get('sha256') or '')[:8]}".strip()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
