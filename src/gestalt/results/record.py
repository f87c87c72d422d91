"""Read and write results files: the JSON of a run or an evaluation, with metrics and provenance.

torch is imported only to name a device.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gestalt.measures.evaluation.confusion import MaskScore, mask_entry, mask_values, matched_values
from gestalt.models.finding import find_run
from gestalt.models.names import RESULT, number_of
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.files import Fields, read_json, write_whole
from gestalt.support.typed import ConfigError

if TYPE_CHECKING:
    import torch

CHANGED = "+changes"
FORMAT = 3
"""The format of results files.  It is raised when the meaning of a field changes."""

VALUES = {"segmentation": mask_values, "matching": matched_values}
"""Measure -> function that computes its metrics from counts."""

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "open_clip_torch",
    "sentence-transformers",
    "transformers",
    "torchmetrics",
    "omegaconf",
    "pillow",
    "numpy",
    "pydensecrf2",
)


def result_paths(target: str, evaluations: bool) -> list[Path]:
    """Return the results files that a target names.

    Args:
        target: a JSON file, the folder of a run, or the name of an experiment for its latest
            finished run with default settings.
        evaluations: True to add the evaluations of the run.

    Raises:
        ConfigError: the target has no result.
    """
    if Path(target).is_file():
        return [Path(target)]
    scored = evaluations_in(Path(target))
    # These are evaluations of label maps, of an external model or of an unfinished run.
    if scored and not (Path(target) / RESULT).is_file():
        raise ConfigError(
            f"{target}: holds evaluations, but no {RESULT} of a finished run; name evaluations, "
            f"such as {scored[-1]}"
        )
    run = find_run(
        target,
        holding=Path(RESULT),
        expected="neither a result's JSON, nor the folder of a finished run, nor an experiment "
        "with one; finished runs",
    )
    return [run / RESULT, *(evaluations_in(run) if evaluations else ())]


def evaluations_in(folder: Path) -> list[Path]:
    """Return the results files of the evaluations in a folder, in order.  Files of evaluations that
    are still running are empty, and left out.
    """
    files = sorted((folder / "evaluations").glob("*.json"), key=number_of)
    return [file for file in files if file.stat().st_size]


def read_record(path: Path) -> Fields:
    """Read the JSON of a run or an evaluation.

    Raises:
        ConfigError: the file is not a results file, has another format, or contradicts itself.
    """
    try:
        # An earlier version wrote addresses with their secrets.
        record: Fields = change_texts(read_json(path, "record"), without_secrets)
        for number, entry in enumerate(record["benchmarks"]):
            for problem in _contradictions(entry, record["metrics"]):
                raise ValueError(f"benchmarks[{number}] of {entry['set']}: {problem}")
        scored = {entry["set"] for entry in record["benchmarks"] if "left_out" not in entry}
        for key in record["metrics"]:
            if key.partition("/")[0] not in scored:
                raise ValueError(f"metrics have {key}, and no benchmark does")
    except ValueError as error:
        raise ConfigError(
            f"{path}: not the JSON of a run or an evaluation ({error}); read it with the version "
            "that wrote it, or evaluate again"
        ) from error
    return record


def _contradictions(entry: Fields, metrics: Fields) -> Iterator[str]:
    """Yield the contradictions in an entry of a results file: missing metrics, rows of counts that
    do not fit, and metrics of label maps that differ from those computed from the counts.
    """
    lacking = [key for key in entry.get("metric_keys", ()) if metrics.get(key) is None]
    if lacking:
        yield f"metrics have no {lacking[0]}"
    rows, counts = entry.get("counts_rows", []), entry.get("counts", {"model": []})
    if len(counts["model"]) != len(rows):
        yield f"counts.model has {len(counts['model'])} rows, and counts_rows {len(rows)}"
    if "iou" not in entry:
        return
    if entry["measure"] not in VALUES:
        yield f"measure {entry['measure']} has no iou"
    scores = {}
    for name, table in counts.items():
        if [len(row) for row in table] != 3 * [len(entry["names"])]:
            yield f"counts.{name} is not 3 rows of {len(entry['names'])} numbers, one for each name"
        scores[name] = MaskScore(counts=np.array(table, dtype=np.int64))
    if mask_entry(scores)["iou"] != entry["iou"]:
        yield "counts.model gives another iou"
    for name, value in VALUES[entry["measure"]](entry["names"], scores).items():
        key = f"{entry['set']}/{name}"
        stored = metrics.get(key)
        if stored is not None and not isclose(stored, value, abs_tol=1e-6):
            yield f"metrics have {key} {stored:.6f}, the counts give {value:.6f}"


def write_record(path: Path, record: Fields) -> None:
    """Write a results file atomically.

    Secrets in URLs are removed. nan and infinity become null.
    """
    finite = json.loads(
        json.dumps({"format": FORMAT, **record}), parse_constant=lambda constant: None
    )
    write_whole(path, json.dumps(change_texts(finite, without_secrets), indent=1) + "\n")


def provenance(device: "torch.device | None" = None) -> Fields:
    """Return the commit of the code, the versions of packages, the machine with its first GPU, and
    the device if given.
    """
    import torch

    code = commit()
    machine = {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }
    return {
        "commit": code,
        "dirty": None if code == "unknown" else code.endswith(CHANGED),
        "python": platform.python_version(),
        "packages": {
            "gestalt": package_version("gestalt-grouping"),
            **{name: package_version(name) for name in PACKAGES},
        },
        "machine": machine if device is None else {**machine, "device": device_name(device)},
    }


def device_name(device: "torch.device") -> str:
    """Return the name of the device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {_processor()}"


def _processor() -> str:
    """Return the model name of the CPU, or its architecture if the name is unknown."""
    cpus = Path("/proc/cpuinfo")
    for line in cpus.read_text().splitlines() if cpus.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def package_version(name: str) -> str:
    """Return the installed version of a package, or ``not installed``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Return the git commit of this code, followed by ``CHANGED`` if files differ from the commit.
    Outside a git checkout it is ``unknown``.
    """
    file = Path(__file__).resolve()

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if top not in file.parents or not git("ls-files", str(file)):
            return "unknown"
        # In these folders, new files count as changes.
        folders = [str(top / name) for name in ("src", "data_modules", "experiments")]
        changes = git("status", "--porcelain", "--untracked-files=no") or git(
            "status", "--porcelain", "--", *folders
        )
        return git("rev-parse", "HEAD") + (CHANGED if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
