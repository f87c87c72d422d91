"""The runs of a grid and the evaluations of a survey as jobs, with their states."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from gestalt.ablation.grid import TUNE, Grid, slug, word
from gestalt.config.loading import load
from gestalt.config.schema import NOT_HASHED, Experiment, config_hash
from gestalt.models.names import CHECKPOINT, RESULT, Overrides, record_of, runs_of, saved_hash
from gestalt.results.record import evaluations_in
from gestalt.results.result import Result, read_result
from gestalt.runs import locks
from gestalt.support.files import Fields, file_hash, read_json, short_digest
from gestalt.support.plugins import find_code
from gestalt.support.typed import ConfigError

QUIET = "trainer.enable_progress_bar=false"  # the output goes to a file

FURTHER_MODELS = ("evaluation.proxy", "evaluation.calibration")
"""Keys that name a second model, or a file that was made with a model."""

OF_IMAGES = (
    "benchmark_",
    "data.",
    "evaluation.benchmarks=",
    "evaluation.limit=",
    "evaluation.split=",
)
"""Prefixes of the overrides that choose the images of an evaluation."""


class State(NamedTuple):
    """The state of a job.

    Attributes:
        kind: ``finished`` if there is a results file; ``stopped`` if there is a checkpoint to
            resume from; ``busy`` if another process runs the job; else ``new``.
        folder: folder of the run, if it has one.
        result: result of the job, if it is finished.
    """

    kind: Literal["finished", "stopped", "busy", "new"]
    folder: Path | None = None
    result: Result | None = None


@dataclass(frozen=True)
class Training:
    """Job that trains a cell with one seed.

    Attributes:
        grid: the grid.
        cell: name of the cell.
        seed: seed of the run.
        chosen: values of ``choose``, as overrides.
        tuning: True if the run is scored on the tuning split, to choose values; False for a
            reported run.
    """

    grid: Grid
    cell: str
    seed: int
    chosen: Overrides = ()
    tuning: bool = False

    @property
    def words(self) -> Overrides:
        """All overrides of the run, including the seed."""
        words = self.grid.words(self.cell, chosen=self.chosen, seed=self.seed)
        return (*words, TUNE) if self.tuning else words

    @property
    def hash(self) -> str:
        """The hash of the configuration, which identifies finished runs."""
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
        """Return the state of the job.

        This is the state of the latest finished run of the configuration. If none is finished, it
        is the state of a busy run, or else of the latest run with a checkpoint.
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

        A busy run is resumed too, because in a cluster job the other ranks see the first rank as
        another process.
        """
        resumable = state.folder is not None and (state.folder / CHECKPOINT).exists()
        resume = [f"resume={state.folder}"] if resumable else []
        return ["train", self.grid.base, "--scale", self.grid.scale, QUIET, *self.words, *resume]


@dataclass(frozen=True)
class Evaluating:
    """Job that evaluates a finished run at an additional test size.

    Attributes:
        cell: name of the cell.
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
        """The overrides: the test size, and the images that the run itself was scored on."""
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
        """Return the state of the latest evaluation of the same weights with the same
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


@dataclass(frozen=True)
class Scoring:
    """Job that evaluates a model for one cell of a survey.

    Attributes:
        cell: name of the cell.
        model: the model to score, as an argument of ``gestalt eval``.
        words: overrides of the evaluation.
        survey: folder of the survey.
    """

    cell: str
    model: str
    words: Overrides
    survey: Path
    seed = 0
    tuning = False
    hash = None

    @property
    def label(self) -> str:
        """Name in messages."""
        return self.cell

    @property
    def models(self) -> list[str]:
        """The model, with its proxy model, calibration file and ``python:`` code if it has them."""
        words = (word.partition("=") for word in self.words)
        further = (
            value for key, _, value in words if key in FURTHER_MODELS or value.startswith("python:")
        )
        return [self.model, *further]

    @cached_property
    def stem(self) -> str:
        """Name of the folder and of the log: the cell, and a digest of the overrides, the model's
        files and the images, which the score depends on.
        """
        words = [word for word in self.words if word.partition("=")[0] not in NOT_HASHED]
        files = [
            (file.name, hash_of_model_file(file)) for name in self.models for file in files_of(name)
        ]
        images = digest_of_images(*(word for word in self.words if word.startswith(OF_IMAGES)))
        facts = [self.model, sorted(words), files, images]
        return f"{slug(self.cell)}-{short_digest(json.dumps(facts))}"

    @property
    def key(self) -> str:
        """Identity of the job among those of earlier calls."""
        return self.stem

    @property
    def folder(self) -> Path:
        """The folder of the results file."""
        return self.survey / "cells" / self.stem

    def read_state(self) -> State:
        """Return the state of the latest evaluation in the folder."""
        finished = evaluations_in(self.folder)
        if finished:
            return State("finished", self.folder, read_result(finished[-1]))
        return State("new", self.folder)

    def command(self, state: State) -> list[str]:
        """Return the arguments of ``python -m gestalt``."""
        return ["eval", self.model, *self.words, "--output", str(self.folder)]


def scoring_config(words: Iterable[str]) -> Experiment:
    """Load a configuration without training data that scores a model, with overrides.

    Raises:
        ConfigError: a key or a value does not fit the schema.
    """
    return load(None, scale=None, overrides=["data.source=scenes", *words])


def files_of(model: str) -> list[Path]:
    """Return the files of a model on this disk, or the module of ``python:`` code; empty for a
    model that is known only by name.
    """
    if code := find_code(f"={model}"):
        return [Path(str(find_spec(code.split(":")[1]).origin))]  # type: ignore[union-attr]
    place = Path(model if Path(model).exists() else model.rpartition(":")[2])
    return sorted(path for path in (place, *place.rglob("*")) if path.is_file())


Job = Training | Evaluating | Scoring


def read_state_file(path: Path, schema: str) -> Fields:
    """Read a JSON file of a grid, with a schema of ``read_json``; empty if the file does not exist.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return read_json(path, schema) if path.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); remove it") from error


hash_of_model_file = cache(file_hash)


@cache
def digest_of_images(*words: str) -> str:
    """Return a digest of the file that defines a benchmark, and of the names and sizes of its
    images.

    It is empty if the images cannot be opened; the evaluation will then report the reason.
    """
    from gestalt.runs.evaluation import build_image_sets  # imports torch

    try:
        (images,) = build_image_sets(scoring_config(words)).values()
    except ValueError:
        return ""
    files = [(path.name, path.stat().st_size) for path in getattr(images, "paths", [])]
    facts = [getattr(images, "definition", None), len(images), files]
    return short_digest(json.dumps(facts))


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
