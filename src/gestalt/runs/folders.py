"""Where runs lie: ``lightning_logs/<experiment>/<scale>/version_<n>``, and which of them to go on with."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

from lightning.pytorch.utilities import rank_zero_only

from gestalt.config.identity import config_hash, hashed_keys
from gestalt.config.loading import LOGS, load_saved
from gestalt.config.schema import ConfigError, Experiment
from gestalt.runs import locks
from gestalt.runs.names import LAST, resolve_checkpoint, run_folder


def first_rank() -> bool:
    """Whether this process is rank 0; known from the launcher's variables before any process group exists."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def new_version(config: Experiment) -> Path | None:
    """Make the next free version folder, on rank 0; None elsewhere.  Two runs at once get two folders: ``mkdir`` decides."""
    if not first_rank():
        return None
    parent = LOGS / config.name / config.scale
    parent.mkdir(parents=True, exist_ok=True)
    return _claim(parent, "version_*", make=lambda number: _made(parent / f"version_{number}"))


def new_evaluation(folder: Path, *, kind: str = "evaluations") -> Path:
    """Claim the next free ``evaluations/<n>.json`` of a run, or of another kind, such as ``sweeps/<n>.json``, as an empty file."""
    parent = folder / kind
    parent.mkdir(exist_ok=True)
    return _claim(parent, "*.json", make=lambda number: _touched(parent / f"{number}.json"))


def _claim(parent: Path, pattern: str, *, make: Callable[[int], Path]) -> Path:
    """The first of the free numbers whose making succeeds; the file system decides between two processes."""
    number = 1 + max((_number(path) for path in parent.glob(pattern)), default=-1)
    while True:
        try:
            return make(number)
        except FileExistsError:
            number += 1


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _touched(file: Path) -> Path:
    file.touch(exist_ok=False)
    return file


def hold(folder: Path) -> IO[str]:
    """Keep a run's folder for this process while the returned file is open.

    Raises:
        ConfigError: another process has it.
    """
    return locks.hold(folder / ".lock", busy=f"resume: another process is training in {folder}; wait for it, or start without resume")


def resolve_resume(config: Experiment) -> Path | None:
    """The checkpoint that ``resume`` means; None for a new run.

    Raises:
        ConfigError: there is none, or its config differs; the message shows the difference.
    """
    if config.resume is None:
        return None
    if config.resume == "last":
        return _newest_match(config)
    checkpoint = resolve_checkpoint(config.resume)
    _refuse_other(checkpoint, config)
    return checkpoint


def _newest_match(config: Experiment) -> Path:
    parent = LOGS / config.name / config.scale
    found = sorted(parent.glob(f"version_*/checkpoints/{LAST}.ckpt"), key=lambda file: _number(file.parents[1]))
    if not found:
        raise ConfigError(f"resume=last: no checkpoint under {parent}; start without resume")
    for checkpoint in reversed(found):
        try:
            same = config_hash(load_saved(run_folder(checkpoint) / "config.yaml")) == config_hash(config)
        except ConfigError:  # a run of an older schema is not this one
            continue
        if same:
            return checkpoint
    _refuse_other(found[-1], config)
    raise AssertionError("the newest run has another hash and the same keys")


def _refuse_other(checkpoint: Path, config: Experiment) -> None:
    saved, asked = hashed_keys(load_saved(run_folder(checkpoint) / "config.yaml")), hashed_keys(config)
    different = [
        f"{key}: {saved.get(key)} there, {asked.get(key)} here" for key in sorted(saved | asked) if saved.get(key) != asked.get(key)
    ]
    if different:
        raise ConfigError(f"resume={config.resume}: {checkpoint} is another run: {'; '.join(different)}")


def _number(path: Path) -> int:
    suffix = path.stem.removeprefix("version_")
    return int(suffix) if suffix.isdigit() else -1
