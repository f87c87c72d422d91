"""Results as JSON: the numbers and their provenance."""

import json
import math
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gestalt.ledger.reading import FORMAT
from gestalt.support.files import replacing

CHANGED = "+changes"
PACKAGES = (
    *("torch", "torchvision", "lightning", "timm", "open_clip_torch", "sentence-transformers", "transformers", "torchmetrics"),
    *("pillow", "numpy", "pydensecrf2"),
)


def provenance(device: torch.device | None = None) -> dict[str, Any]:
    """Return the commit of the code, the versions of the packages, and the machine with its first GPU, and the device if given."""
    code = commit()
    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    machine = {"platform": platform.platform(), "processor": processor(), "cpus": os.cpu_count(), "accelerator": accelerator}
    return {
        "commit": code,
        "dirty": None if code == "unknown" else code.endswith(CHANGED),
        "python": platform.python_version(),
        "packages": {"gestalt": package_version("gestalt-grouping"), **{name: package_version(name) for name in PACKAGES}},
        "machine": machine if device is None else {**machine, "device": device_name(device)},
    }


def device_name(device: torch.device) -> str:
    """Return the name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {processor()}"


def processor() -> str:
    """Return the CPU's model name, or its architecture if the system does not state it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (models or [platform.processor() or platform.machine()])[0]


def package_version(name: str) -> str:
    """Return the installed version, or ``not installed``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Return the commit of this code, followed by ``CHANGED`` if files differ from it; ``unknown`` outside a git checkout."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        top = git("rev-parse", "--show-toplevel")
        if Path(top) not in Path(__file__).resolve().parents or not git("ls-files", str(Path(__file__).resolve())):
            return "unknown"
        folders = [str(Path(top) / name) for name in ("src", "data_modules", "experiments")]  # in these, new files count as changes
        changes = git("status", "--porcelain", "--untracked-files=no") or git("status", "--porcelain", "--", *folders)
        return git("rev-parse", "HEAD") + (CHANGED if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record atomically as JSON; nan and infinity become null."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(_without_nan({"format": FORMAT, **record}), indent=1, allow_nan=False) + "\n")


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
