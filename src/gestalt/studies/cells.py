"""The runs of a grid: what each is, and whether it is finished, half way, or under way in another process."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gestalt.config.identity import config_hash
from gestalt.config.loading import LOGS, load, load_saved, stem
from gestalt.config.schema import ConfigError
from gestalt.studies.grid import TUNE, Cell, Grid
from gestalt.studies.grid_checks import slug

LAST = Path("checkpoints") / "last.ckpt"
QUIET = "trainer.enable_progress_bar=false"  # the output goes to a file


class State(NamedTuple):
    """How far a run is.

    Attributes:
        kind: finished has its record; stopped has a checkpoint to go on from; busy is in another process's hands; new is none of these.
        folder: of the run, where there is one.
        record: what ``result.json``, or the evaluation's file, says.
        arrays: the folder of the finished one's ``<set>.npz``.
    """

    kind: Literal["finished", "stopped", "busy", "new"]
    folder: Path | None = None
    record: dict[str, Any] | None = None
    arrays: Path | None = None


@dataclass(frozen=True)
class Training:
    """One run of a cell.

    Attributes:
        cell: its name.
        seed: the run's.
        base: the experiment.
        scale: its scale.
        words: all overrides, the seed's too.
        hash: of the configuration, which is what a finished run is found by.
        tried: the values that it tries on the tuning split; empty for a reported run.
    """

    cell: str
    seed: int
    base: str
    scale: str
    words: tuple[str, ...]
    hash: str
    tried: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What people call it."""
        tried = f", {' '.join(self.tried)}, tuning split" if self.tried else ""
        return f"{self.cell}, seed {self.seed}{tried}"

    @property
    def stem(self) -> str:
        """Of its log's file name."""
        return slug(f"{self.cell} seed{self.seed} {' '.join(self.tried)}")

    def look(self) -> State:
        """The newest finished run of the same configuration, else one to wait for, else the newest with a checkpoint."""
        folders = _versions(stem(self.base), stem(self.scale))
        for folder in folders:
            record = read_json(folder / "result.json")
            if record is not None and record["config_hash"] == self.hash:
                return State("finished", folder, record, folder / "per_image")
        halfway = [folder for folder in folders if not (folder / "result.json").exists() and saved_hash(folder) == self.hash]
        for folder in halfway:
            if in_other_hands(folder):
                return State("busy", folder)
        for folder in halfway:
            if (folder / LAST).exists():
                return State("stopped", folder)
        return State("new")

    def command(self, state: State) -> list[str]:
        """What follows ``python -m gestalt``: go on where the run stopped, or begin.

        A busy one is gone on with too: the later ranks of a job find its first rank at work.
        """
        saved = state.kind in ("stopped", "busy") and state.folder is not None and (state.folder / LAST).exists()
        resume = [f"resume={state.folder}"] if saved else []
        return ["train", self.base, "--scale", self.scale, QUIET, *self.words, *resume]


@dataclass(frozen=True)
class Evaluating:
    """One more score of a finished run, at a test size of its own."""

    cell: str
    seed: int
    run: Path
    size: int
    limit: int | None

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides: the size, and the images that the run itself was scored on."""
        return (f"image.eval_size={self.size}", f"evaluation.limit={'null' if self.limit is None else self.limit}")

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.cell}, seed {self.seed}, tested at {self.size} px"

    @property
    def stem(self) -> str:
        """Of its log's file name."""
        return slug(f"{self.cell} seed{self.seed} {self.size}px")

    def look(self) -> State:
        """Finished once an evaluation of the very weights with the very configuration lies in the run's folder."""
        wanted = saved_hash(self.run, words=self.words)
        result = read_json(self.run / "result.json")
        assert result is not None
        for path in sorted((self.run / "evaluations").glob("*.json"), reverse=True):
            record = read_json(path)
            same = record is not None and record["config_hash"] == wanted and record["weights_sha256"] == result["weights_sha256"]
            if same:
                return State("finished", self.run, record, path.with_suffix(""))
        return State("new", self.run)

    def command(self, state: State) -> list[str]:
        """What follows ``python -m gestalt``."""
        return ["eval", str(self.run), *self.words, QUIET]


Work = Training | Evaluating


def training(grid: Grid, cell: Cell, *, seed: int, chosen: tuple[str, ...] = (), tune: bool = False) -> Training:
    """A cell's run with this seed; with ``tune`` one that only tells how good the chosen values are."""
    words = (*grid.words(cell, chosen=chosen, seed=seed), *((TUNE,) if tune else ()))
    digest = _hash_of_words(grid.base, grid.scale, words)
    return Training(cell.name, seed, grid.base, grid.scale, words=words, hash=digest, tried=chosen if tune else ())


@lru_cache(maxsize=4096)
def _hash_of_words(base: str, scale: str, words: tuple[str, ...]) -> str:
    return config_hash(load(base, scale=scale, overrides=list(words)))


def read_json(path: Path) -> dict[str, Any] | None:
    """A record; None where there is no file, or one that its writer has only claimed.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=4096)
def _parsed(path: Path, time: int) -> dict[str, Any] | None:
    text = path.read_text()
    try:
        record = json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not the JSON that a run writes ({error}); move it away") from error
    if record is not None and "config_hash" not in record:
        raise ConfigError(f"{path}: no result of a run, it has no config_hash; move it away")
    return record


def saved_hash(folder: Path, *, words: tuple[str, ...] = ()) -> str | None:
    """The hash of a run's saved configuration, with further overrides; None where there is none, or one of another schema."""
    path = folder / "config.yaml"
    return _hash_of_file(path, path.stat().st_mtime_ns, words) if path.is_file() else None


@lru_cache(maxsize=4096)
def _hash_of_file(path: Path, time: int, words: tuple[str, ...]) -> str | None:
    try:
        return config_hash(load_saved(path, overrides=list(words)))
    except ConfigError:
        return None


def in_other_hands(folder: Path) -> bool:
    """Whether a process trains in the folder now."""
    from gestalt.runs.folders import hold

    if not (folder / ".lock").exists():
        return False
    try:
        hold(folder).close()
    except ConfigError:
        return True
    return False


def _versions(base: str, scale: str) -> list[Path]:
    """Newest first."""
    found = [path for path in (LOGS / base / scale).glob("version_*") if path.name.removeprefix("version_").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("version_")), reverse=True)
