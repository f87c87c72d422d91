"""Open the model that a word names: a run, a checkpoint, an exported folder, a model of the hub, or another library's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.building.checkpoint import check_recorded, load_model
from gestalt.building.guest import open_guest
from gestalt.building.source import train_size
from gestalt.config.identity import flatten, to_plain, unflatten
from gestalt.config.loading import LOGS, WHOLE, load_saved
from gestalt.config.schema import ConfigError, Experiment
from gestalt.config.schema_data import only_scenes
from gestalt.encoders.dense_model import DenseModel
from gestalt.publishing.folder import load_folder, read_config, read_description
from gestalt.publishing.hub import download
from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import CHECKPOINT, WEIGHTS, exported_folder, guest_of, hub_name, run_folder
from gestalt.runs.progress import Progress, progress
from gestalt.support.files import file_hash

THIS_MACHINE = ("trainer.num_nodes=1", "trainer.devices=auto", "trainer.strategy=auto")
"""Overrides of a saved run: it is used on the machine of the command, not on those of the training."""

ONLY_TRAINING = (
    *("seed", "resume", "logger", "optimizer.", "loss.", "pretraining."),
    *("data.limit", "data.crops", "data.features", "data.batch_size", "trainer.accumulate_grad_batches"),
    *("trainer.max_", "checkpoint_every_steps"),
)
"""Prefixes of keys that only training reads."""

TRAINED = {"run": str, "steps": int, "steps_planned": int}
"""Fields of the identity of a model that Gestalt trained, and their types."""

Check = Callable[[Experiment], None]


class Target(NamedTuple):
    """A model with what scoring needs.

    Attributes:
        config: configuration of the evaluation.
        model: with its weights, in eval mode.
        folder: folder of its records.
        identity: fields of the record that identify the weights: ``checkpoint``, which is shown in messages, and of a model that Gestalt
            trained ``run``, ``steps`` and ``steps_planned``, as far as its files say.
        trained_at: side of the training images, pixels; None for another library's model.
        only_scenes: True if the run trained on generated scenes alone.
    """

    config: Experiment
    model: DenseModel
    folder: Path
    identity: dict[str, Any]
    trained_at: int | None
    only_scenes: bool = False

    @property
    def origin(self) -> str:
        """The model in words, such as ``lightning_logs/clippy_dino_max/demo/version_0, step 900 of 900``."""
        return ", ".join(filter(None, (place_of(self.identity), step_of(self.identity))))


def place_of(identity: Mapping[str, Any]) -> str:
    """Return a run's folder, or what else a model was opened from: another checkpoint of a run, an exported folder, ``kind:name``."""
    checkpoint = str(identity["checkpoint"])
    return str(identity["run"]) if "run" in identity and Path(checkpoint).name == CHECKPOINT.name else checkpoint


def step_of(identity: Mapping[str, Any]) -> str:
    """Return the step of a model that Gestalt trained, such as ``step 900 of 900``; empty where its files do not say."""
    return str(Progress(identity["steps"], identity.get("steps_planned"))) if "steps" in identity else ""


def accept(config: Experiment) -> None:
    """Accept any configuration."""


def open_target(target: str, *, overrides: list[str] | None = None, check: Check = accept) -> Target:
    """Resolve a target to its model and configuration.

    The run's ``evaluation.limit`` is dropped, so that all images of a benchmark are scored, unless ``overrides`` set it.

    Args:
        target: a checkpoint, a run's folder, an experiment's name for its newest finished plain run, an exported folder, its name on the
            hub as ``org/name``, or another library's model as ``kind:name``.
        overrides: ``key=value`` words on the saved configuration, such as ``image.eval_size=448``.
        check: is called with the configuration as soon as that is known, and may refuse it.

    Raises:
        ValueError: no such target, a configuration that cannot be used, or weights that do not fit it.
    """
    words = list(overrides or ())
    if guest_of(target) is not None:
        opened = _open_guest(target, overrides=words, check=check)
    elif (folder := exported_folder(target)) is not None:
        opened = _open_folder(folder, overrides=words, check=check)
    elif (name := hub_name(target)) is not None:
        opened = _open_folder(download(name), overrides=words, check=check)
        opened = opened._replace(identity={**opened.identity, "checkpoint": target})
    else:
        opened = _open_run(target, overrides=words, check=check)
    opened.model.eval()
    return opened


def _open_guest(target: str, *, overrides: list[str], check: Check) -> Target:
    guest = open_guest(target, overrides=overrides)
    check(guest.config)
    digest = None if guest.file is None else file_hash(guest.file)
    origin, text = guest.model.image_origin, guest.model.text_origin
    identity = {
        **{"experiment": "zoo", "checkpoint": target, **({} if digest is None else {"checkpoint_sha256": digest})},
        **{"model": guest.description, "config": unflatten(guest.settings()), "config_hash": None},
        "text_init": None if text is None else {"asked": target, "used": text.init, "source": text.source},
        "image_init": {"asked": target, "used": origin.init, "source": origin.source, "sha256": digest},
    }
    return Target(guest.config, guest.model, folder=guest.folder, identity=identity, trained_at=None)


def _open_run(target: str, *, overrides: list[str], check: Check) -> Target:
    checkpoint = resolve_checkpoint(target)
    folder = run_folder(checkpoint)
    saved = load_saved(folder / "config.yaml")
    config = _for_scoring(load_saved(folder / "config.yaml", overrides=[WHOLE, *THIS_MACHINE, *overrides]), saved=saved)
    check(config)
    steps, planned = progress(checkpoint)
    identity = _identity(str(checkpoint), checkpoint, provenance={"run": _run_path(checkpoint), "steps": steps, "steps_planned": planned})
    check_recorded(checkpoint, sha256=identity["checkpoint_sha256"])
    model = load_model(checkpoint, replace(config, image=replace(config.image, eval_size=saved.image.eval_size)))
    return Target(config, model, folder, identity, trained_at=train_size(saved), only_scenes=only_scenes(saved.data))


def _open_folder(folder: Path, *, overrides: list[str], check: Check) -> Target:
    saved = read_config(folder)
    config = _for_scoring(read_config(folder, overrides=[WHOLE, *THIS_MACHINE, *overrides]), saved=saved)
    check(config)
    records = LOGS / "exported" / folder.resolve().name
    identity = _identity(str(folder), folder / WEIGHTS, provenance=read_description(folder).get("provenance"))
    return Target(config, load_folder(folder), records, identity, trained_at=train_size(saved), only_scenes=only_scenes(saved.data))


def _identity(checkpoint: str, file: Path, *, provenance: Any) -> dict[str, Any]:
    """Return the fields that identify weights, with those of ``TRAINED`` that their provenance has."""
    facts = provenance if isinstance(provenance, dict) else {}
    known = {key: facts[key] for key, kind in TRAINED.items() if isinstance(facts.get(key), kind)}
    return {"checkpoint": checkpoint, "checkpoint_sha256": file_hash(file), **known}


def _run_path(checkpoint: Path) -> str:
    """Return the run's folder as in the checkpoint's path, or its absolute path if that does not contain it."""
    named = checkpoint.parents[1] if len(checkpoint.parts) > 2 else Path()
    return str(named if named.resolve() == run_folder(checkpoint) and named.name not in ("", "..") else run_folder(checkpoint))


def _for_scoring(config: Experiment, *, saved: Experiment) -> Experiment:
    """Return the configuration without the cache of features that the run read, which may be gone: scoring runs the towers on pixels.

    Raises:
        ConfigError: a key that only training reads was changed; the record says what its checkpoint was trained with.
    """
    before = flatten(to_plain(saved))
    for key, value in flatten(to_plain(config)).items():
        if key.startswith(ONLY_TRAINING) and value != before.get(key):
            raise ConfigError(f"{key}={value}: the run had {before.get(key)}, and scoring does not read it; leave it out")
    return replace(config, data=replace(config.data, features=None))
