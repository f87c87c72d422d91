"""Open the model that a word names: a run, a checkpoint, an exported folder, a model of the hub, or
another library's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gestalt.config.folders import LOGS
from gestalt.config.loading import load
from gestalt.config.saved import ALL_IMAGES, load_mapping
from gestalt.config.schema import Experiment, keys_below, to_plain
from gestalt.config.start import read_start
from gestalt.config.trust import TRUSTED, Places, places_of
from gestalt.encoders.checkpoints import beside, read_checkpoint
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.keys import train_size
from gestalt.encoders.state_dicts import AGAIN
from gestalt.encoders.weights import WeightsOrigin
from gestalt.model import DualEncoder
from gestalt.models.building import load_model, set_origin
from gestalt.models.finding import resolve_checkpoint
from gestalt.models.folder import download, load_folder, read_description
from gestalt.models.names import (
    CHECKPOINT,
    DESCRIPTION,
    RESULT,
    WEIGHTS,
    Progress,
    config_of,
    exported_folder,
    external_name,
    has_ended,
    is_hub_name,
    progress_of,
    record_of,
    run_of,
    unnamed_places,
)
from gestalt.models.zoo.kinds import DEFAULTS, EXTERNAL, check_name, open_external
from gestalt.support.files import file_hash
from gestalt.support.keys import Reader, flatten, words_read_by
from gestalt.support.names import file_name
from gestalt.support.typed import ConfigError

UNLABELLED = words_read_by(Reader.DEBIASING, Experiment)
"""How the overrides begin that name unlabelled images for another library's model; the data of its
configuration are placeholders.
"""

THIS_MACHINE = ("trainer.num_nodes=1", "trainer.devices=auto", "trainer.strategy=auto")
"""Overrides of a saved run: it is used on the machine of the command, not on those of the
training.
"""

ONLY_TRAINING = words_read_by(Reader.TRAINING, Experiment)
"""How the overrides of keys begin that only training reads."""

TRAINED = ("run", "steps", "steps_planned", "interpolation")
"""Fields of the identity of a model that Gestalt trained."""

Check = Callable[[Experiment, bool, Places], None]
"""A check of a configuration, of whether its model has text as far as its name tells, and of the
places that it may not open.
"""

Identity = dict[str, Any]
"""The fields of a record that identify weights, as JSON."""


class Target(NamedTuple):
    """A model with what scoring needs.

    Attributes:
        config: configuration of the evaluation.
        model: with its weights, in eval mode.
        folder: folder of its records.
        identity: fields of the record that identify the weights: ``checkpoint``, which is shown in
            messages, and of a model that Gestalt trained ``run``, ``steps`` and ``steps_planned``,
            as far as its files say.
        trained: configuration of the run that trained it; None for another library's model.
        kept: the vectors of prompts of its evaluations so far.
        places: what only a file from elsewhere names, which is not opened.
    """

    config: Experiment
    model: DenseModel
    folder: Path
    identity: Identity
    trained: Experiment | None
    kept: dict[str, Tensor] | None = None
    places: Places = TRUSTED

    @property
    def trained_at(self) -> int | None:
        """The side of the training images, pixels; None for another library's model."""
        return None if self.trained is None else train_size(self.trained.image)

    @property
    def origin(self) -> str:
        """The model in words, such as ``lightning_logs/clippy_dino_max/demo/version_0, step 900 of
        900``.
        """
        return ", ".join(filter(None, (place_of(self.identity), step_of(self.identity))))


def place_of(identity: Identity) -> str:
    """Return a run's folder, or what else a model was opened from: another checkpoint of a run, an
    exported folder, ``kind:name``.
    """
    checkpoint = str(identity["checkpoint"])
    newest = "run" in identity and Path(checkpoint).name == CHECKPOINT.name
    return str(identity["run"]) if newest else checkpoint


def step_of(identity: Identity) -> str:
    """Return the step of a model that Gestalt trained, such as ``step 900 of 900``; empty where its
    files do not say.
    """
    if "steps" not in identity:
        return ""
    return str(Progress(identity["steps"], identity.get("steps_planned")))


def open_target(
    target: str,
    *,
    overrides: list[str] | None = None,
    trusted: Sequence[str] = (),
    check: Check = lambda *_: None,
) -> Target:
    """Resolve a target to its model and configuration.

    The run's ``evaluation.limit`` is dropped, so that all images of a benchmark are scored, unless
    ``overrides`` set it.

    Args:
        target: a checkpoint, a run's folder, an experiment's name for its newest finished plain
            run, an exported folder, its name on the hub as ``org/name``, or another library's model
            as ``kind:name``.
        overrides: ``key=value`` words on the saved configuration, such as ``image.eval_size=448``.
        trusted: words that name code which may be run, and that change no key.
        check: is called as soon as the configuration is known, before weights are read, and may
            refuse it.

    Raises:
        ValueError: no such target, a configuration that cannot be used, or weights that do not fit
            it.
    """
    words = overrides or []
    if external := external_name(target):
        opened = _open_external(target, *external, words, check)
    elif is_hub_name(target):
        opened = _open_folder(target, download(target), words, trusted, check)
    elif folder := exported_folder(target):
        opened = _open_folder(target, folder, words, trusted, check)
    else:
        opened = _open_run(resolve_checkpoint(target), words, trusted, check)
    opened.model.eval()
    return opened._replace(kept={})


def load_scoring(overrides: list[str], *, defaults: Sequence[str] = DEFAULTS) -> Experiment:
    """Load the configuration that scores a model without training data.

    Raises:
        ConfigError: a key or value that does not fit, or ``evaluation.debias`` without images for
            it.
    """
    config = load(None, scale=None, overrides=[*defaults, *overrides])
    named = any(word.startswith(UNLABELLED) for word in overrides)
    if config.evaluation.debias == "largest" and not named:
        raise ConfigError(
            "evaluation.debias: the model has no training data here; name a folder of pictures by "
            "evaluation.unlabelled=DIR"
        )
    return config


def _open_external(target: str, kind: str, name: str, overrides: list[str], check: Check) -> Target:
    """Open a model of another library; refuse keys that scoring it does not read."""
    check_name(kind, name)
    row = EXTERNAL[kind]
    for word in overrides:
        if not word.startswith(row.reads):
            raise ConfigError(
                f"{word}: scoring {target} does not read it; leave it out (read: "
                f"{', '.join(row.reads)})"
            )
    defaults = [word.format(name=name) for word in row.defaults]
    config = load_scoring(overrides, defaults=defaults)
    check(config, row.has_text, TRUSTED)
    model, description, size, sha256 = open_external(kind, name, config)
    if size is not None:
        config = load_scoring(overrides, defaults=[*defaults, f"image.eval_size={size}"])
    origin, text = model.image_origin, model.text_origin
    identity = {
        "experiment": "zoo",
        "checkpoint": target,
        "model": description,
        "config": keys_below(config, row.reads),
        "config_hash": None,
        "text_init": None
        if text is None
        else {"requested": target, "resolved": text.init, "source": text.source},
        "image_init": {"requested": target, **origin.record(), "sha256": sha256 or origin.sha256},
    }
    if sha256 is not None:
        identity["checkpoint_sha256"] = sha256
    return Target(config, model, LOGS / "zoo" / kind / file_name(name), identity, trained=None)


def _open_run(
    checkpoint: Path, overrides: list[str], trusted: Sequence[str], check: Check
) -> Target:
    run = run_of(checkpoint)
    saved = config_of(checkpoint, run)
    config = _for_scoring(saved, overrides, origin=checkpoint)
    places = unnamed_places(checkpoint, run, config, [*overrides, *trusted])
    check(config, True, places)
    sha256 = file_hash(checkpoint)
    record = record_of(checkpoint.resolve().parent.parent / RESULT)
    content = read_checkpoint(checkpoint, verified=is_recorded(checkpoint, sha256, record))
    steps, planned = progress_of(content)
    # without the optimiser's tensors, which need memory
    content = {key: content.get(key, {}) for key in ("state_dict", "gestalt")}
    known: Identity = {"steps": steps, "steps_planned": planned}
    if run is not None:
        known["data"] = (record or {}).get("data", {})
        # as in the checkpoint's path, or absolute if that does not contain it
        named = checkpoint.parents[1] if len(checkpoint.parts) > 2 else Path()
        within = named.resolve() == run and named.name not in ("", "..")
        known["run"] = str(named if within else run)
    identity = _identity(str(checkpoint), sha256, known)
    image = replace(config.image, eval_size=saved.image.eval_size)
    model = load_checkpoint_model(checkpoint, replace(config, image=image), content)
    return Target(config, model, run or checkpoint.parent, identity, trained=saved, places=places)


def _open_folder(
    target: str, folder: Path, overrides: list[str], trusted: Sequence[str], check: Check
) -> Target:
    described = read_description(folder)
    saved, provenance = described
    config = _for_scoring(saved, overrides, origin=folder / DESCRIPTION)
    places = places_of(config, [*overrides, *trusted], origin=str(folder / DESCRIPTION))
    check(config, True, places)
    identity = _identity(target, file_hash(folder / WEIGHTS), provenance)
    return Target(
        config,
        load_folder(folder, [*overrides, *trusted], description=described),
        LOGS / "exported" / folder.resolve().name,
        identity,
        trained=saved,
        places=places,
    )


def _identity(checkpoint: str, sha256: str, provenance: Identity) -> Identity:
    """Return the fields that identify weights, with those of ``TRAINED`` that their provenance
    has, and the number of training pairs.
    """
    known = {key: provenance[key] for key in TRAINED if provenance.get(key) is not None}
    data = provenance.get("data", {})
    if "checkpoint" in provenance:  # of an exported folder
        known["exported_checkpoint"] = provenance["checkpoint"]
    if "samples" in data:
        known["data"] = {"samples": data["samples"]}
    return {"checkpoint": checkpoint, "checkpoint_sha256": sha256, **known}


def _for_scoring(saved: Experiment, overrides: list[str], *, origin: Path) -> Experiment:
    """Return a run's configuration with further overrides, without the cache of features that it
    read: scoring runs the towers on pixels.

    Raises:
        ConfigError: a key that only training reads was changed; the record says what its checkpoint
            was trained with.
    """
    before = to_plain(saved)
    config = load_mapping(before, origin=origin, overrides=[ALL_IMAGES, *THIS_MACHINE, *overrides])
    trained = flatten(before)
    for key, value in flatten(to_plain(config)).items():
        if f"{key}=".startswith(ONLY_TRAINING) and value != trained.get(key):
            raise ConfigError(
                f"{key}={value}: the run had {trained.get(key)}, and scoring does not read it; "
                "leave it out"
            )
    return replace(config, data=replace(config.data, features=None))


def load_checkpoint_model(
    checkpoint: Path, config: Experiment, content: dict[str, Any]
) -> DualEncoder:
    """Build the model of a configuration, in eval mode, with the weights in the content of a run's
    checkpoint, and the origin of its start.

    Raises:
        ValueError: the weights do not fit the configuration, or the origin is missing.
    """
    weights = {
        str(name).removeprefix("model."): value
        for name, value in content["state_dict"].items()
        # the terms of the loss and the parameters of a subclass are only for training
        if isinstance(value, Tensor) and str(name).startswith("model.")
    }
    model = load_model(
        config,
        weights,
        source=f"checkpoint {checkpoint}",
        misfit=f"{checkpoint} does not fit the model of its configuration, with the command line's "
        "changes",
    )
    if config.start is not None:
        tower = read_start(config.start).tower
        try:
            origin = WeightsOrigin(**content["gestalt"][f"{tower or 'image'}_origin"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{checkpoint}: it lacks the origin of its start; {AGAIN}") from error
        set_origin(model, origin, tower)
    return model


def is_recorded(checkpoint: Path, sha256: str, record: Identity | None) -> bool:
    """Return True if a checkpoint is the file that the record of its finished run was written with;
    False where no record says.

    Raises:
        ValueError: it is another file.
    """
    folder = checkpoint.resolve().parent.parent
    if (
        record is None
        or not has_ended(record)
        or checkpoint.resolve().parent != folder / CHECKPOINT.parent
    ):
        # a run that goes on writes other files, and a copy elsewhere may be an earlier one
        return False
    known = {CHECKPOINT.name: record.get("checkpoint_sha256"), **record.get("checkpoints", {})}
    expected = known.get(checkpoint.resolve().name)
    if expected not in (None, sha256):
        raise ValueError(
            f"{checkpoint}: damaged or replaced: its SHA-256 is {sha256[:12]}, {folder / RESULT} "
            f"has {str(expected)[:12]}; {AGAIN}, or train again{beside(checkpoint)}"
        )
    return expected is not None
