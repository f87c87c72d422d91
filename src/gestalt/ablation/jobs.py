"""The runs of a grid as jobs, with their states."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from gestalt.ablation.grid import TUNE, Grid, slug, word
from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.models.names import CHECKPOINT, RESULT, Overrides, record_of, runs_of, saved_hash
from gestalt.results.record import evaluations_in
from gestalt.results.result import Result, read_result
from gestalt.runs import locks
from gestalt.support.files import Fields, read_json
from gestalt.support.typed import ConfigError

QUIET = "trainer.enable_progress_bar=false"  # the output goes to a file


class State(NamedTuple):
    """State of a job.

    Attributes:
        kind: finished has a record; stopped has a checkpoint to resume from; busy is run by another
            process; new is none of these.
        folder: folder of the run, if it has one.
        result: its result, if finished.
    """

    kind: Literal["finished", "stopped", "busy", "new"]
    folder: Path | None = None
    result: Result | None = None


@dataclass(frozen=True)
class Training:
    """A training run of a cell.

    Attributes:
        grid: the grid.
        cell: name of its cell.
        seed: seed of the run.
        chosen: values of ``choose``, as overrides.
        tuning: True if the run is scored on the tuning split, to choose by; False for a reported
            run.
    """

    grid: Grid
    cell: str
    seed: int
    chosen: Overrides = ()
    tuning: bool = False

    @property
    def words(self) -> Overrides:
        """All overrides, with the seed."""
        words = self.grid.words(self.cell, chosen=self.chosen, seed=self.seed)
        return (*words, TUNE) if self.tuning else words

    @property
    def hash(self) -> str:
        """Hash of the configuration, which identifies finished runs."""
        return _hash_of_words(self.grid.base, self.grid.scale, self.words)

    @property
    def label(self) -> str:
        """Name in messages."""
        tried = f", {' '.join(self.chosen)}, tuning split" if self.tuning else ""
        return f"{self.cell}, seed {self.seed}{tried}"

    @property
    def stem(self) -> str:
        """Stem of the log's file name."""
        tried = " ".join(self.chosen) if self.tuning else ""
        return slug(f"{self.cell} seed{self.seed} {tried}")

    @property
    def key(self) -> str:
        """Identity of the job among those of earlier calls."""
        return f"{self.stem} {self.hash}"

    def read_state(self) -> State:
        """Return the state of the newest finished run of the configuration, else of a busy one,
        else of the newest with a checkpoint.
        """
        unfinished = []
        for folder in reversed(runs_of(self.grid.base_name, self.grid.scale_name)):
            path = folder / RESULT
            record = record_of(path)
            if record is not None and record.get("config_hash") == self.hash:
                return State("finished", folder, read_result(path))
            if record is None and saved_hash(folder) == self.hash:
                unfinished.append(folder)
        for folder in unfinished:
            if _is_held(folder):
                return State("busy", folder)
        for folder in unfinished:
            if (folder / CHECKPOINT).exists():
                return State("stopped", folder)
        return State("new")

    def command(self, state: State) -> list[str]:
        """Return the arguments of ``python -m gestalt`` that start or resume the run.

        A busy run is resumed too, because the later ranks of a cluster job see its first rank as
        another process.
        """
        resumable = state.folder is not None and (state.folder / CHECKPOINT).exists()
        resume = [f"resume={state.folder}"] if resumable else []
        return ["train", self.grid.base, "--scale", self.grid.scale, QUIET, *self.words, *resume]


@dataclass(frozen=True)
class Evaluating:
    """An evaluation of a finished run at a further test size.

    Attributes:
        cell: its name.
        seed: seed of the run.
        run: folder of the run.
        size: test size in pixels.
        limit: number of images that the run itself was scored on; None for all.
    """

    cell: str
    seed: int
    run: Path
    size: int
    limit: int | None
    tuning = False

    @property
    def words(self) -> Overrides:
        """Overrides: the size, and the images that the run itself was scored on."""
        return (f"image.eval_size={self.size}", word("evaluation.limit", self.limit))

    @property
    def hash(self) -> str | None:
        """Hash of the configuration."""
        return saved_hash(self.run, self.words)

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"{self.cell}, seed {self.seed}, tested at {self.size} px"

    @property
    def stem(self) -> str:
        """Stem of the log's file name."""
        return slug(f"{self.cell} seed{self.seed} {self.size}px")

    @property
    def key(self) -> str:
        """Identity of the job among those of earlier calls."""
        return f"{self.stem} {self.run}"

    def read_state(self) -> State:
        """Return the state of the newest evaluation of the same weights with the same
        configuration.
        """
        result = record_of(self.run / RESULT)
        assert result is not None
        identity = {"config_hash": self.hash, "weights_sha256": result["weights_sha256"]}
        for path in reversed(evaluations_in(self.run)):
            record = record_of(path) or {}
            if identity == {key: record.get(key) for key in identity}:
                return State("finished", self.run, read_result(path))
        return State("new", self.run)

    def command(self, state: State) -> list[str]:
        """Return the arguments of ``python -m gestalt``."""
        return ["eval", str(self.run), *self.words, QUIET]


Job = Training | Evaluating


def read_state_file(path: Path, schema: str) -> Fields:
    """Return the JSON of a file of this grid, by a schema of ``read_json``; empty without the
    file.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return read_json(path, schema) if path.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); remove it") from error


@cache
def _hash_of_words(base: str, scale: str, words: Overrides) -> str:
    return config_hash(load(base, scale=scale, overrides=words))


def _is_held(folder: Path) -> bool:
    """Return True if a process is training in the folder."""
    lock = folder / ".lock"
    try:
        if lock.exists():
            locks.hold(lock, "").close()
    except locks.Held:
        return True
    return False
