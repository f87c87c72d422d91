"""Load the saved configuration of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gestalt.config.check import check
from gestalt.config.merge import merge
from gestalt.config.schema import Experiment
from gestalt.config.words import keys_named, layers_of
from gestalt.losses.keys import Loss
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.support.keys import Keys, flatten, unflatten
from gestalt.support.plugins import find_code
from gestalt.support.typed import ConfigError, fields_below, read_keys

ALL_IMAGES = "evaluation.limit=null"
"""Override that comes before the command line of an evaluation.  It scores all images, even if
training scored only a part after each epoch.
"""

REMOVED = (
    "data.cache_gib",
    "trainer.fast_dev_run",
    "trainer.num_sanity_val_steps",
    "pretraining.",
    "loss.self_distillation_",
    "loss.text_conditioned_",
)
"""Removed keys, or prefixes of removed keys.  They are ignored in a saved configuration if the
schema does not have them.
"""


def load_saved(path: Path, *, overrides: Sequence[str] = ()) -> Experiment:
    """Read the resolved ``config.yaml`` of a run, and apply overrides.

    The packages of its loss and benchmarks need not be installed.

    Raises:
        ConfigError: the file is missing or does not fit the schema.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; the folder of a run contains config.yaml and checkpoints/"
        )
    return load_mapping(read_keys(path), origin=path, overrides=overrides)


def load_mapping(content: Keys, *, origin: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Check the resolved configuration of a run, a mapping from ``schema.to_plain``.

    The packages of its loss and benchmarks need not be installed. ``origin`` is the file of the
    configuration.

    Raises:
        ConfigError: the configuration does not fit the schema.
    """
    if any("." in str(name) for name in content):
        raise ConfigError(
            f"{origin}: not a saved configuration; its groups of keys are mappings, such as image: "
            f"{{init: random}}"
        )
    config = merge([(str(origin), _without_removed_keys(content)), *layers_of(overrides)])
    scored, named = config.evaluation, keys_named(overrides)
    # Packages of the loss and of benchmarks, and files, may not exist any more, and a file from
    # elsewhere may name any.  They are checked where they are opened.
    if "evaluation.benchmarks" not in named:
        installed = [name for name in scored.benchmarks if name in {*BENCHMARKS}]
        scored = replace(scored, benchmarks=installed)
    if "evaluation.calibration" not in named:
        scored = replace(scored, calibration=None)
    parts = {
        "loss": Loss(),
        "evaluation": _without_code(scored, "reading"),
        "image": _without_code(config.image, "aggregation"),
        "text": _without_code(config.text, "aggregation"),
    }
    try:
        check(replace(config, **parts))
    except ConfigError as error:
        if overrides:
            raise
        raise ConfigError(f"{error} (in {origin})") from error
    return config


def _without_removed_keys(layer: Keys) -> Keys:
    """Return a saved configuration without the keys of :data:`REMOVED`, and without ``made``, an
    earlier value of ``init``.
    """
    known = {name for name, _ in fields_below(Experiment)}
    keys = flatten(layer, keep_empty=True)
    inits = [value for key, value in keys.items() if key.startswith("image.inits.")]
    removed = REMOVED if "made" not in inits else (*REMOVED, "image.inits.")
    return unflatten(
        {key: value for key, value in keys.items() if key in known or not key.startswith(removed)}
    )


def _without_code(group: Any, key: str) -> Any:
    """Return a group of keys with a key that names code reset to its default.

    Otherwise a check would import the code before it is known whether the user trusts the file.
    """
    named = find_code(f"{key}={getattr(group, key)}")
    return replace(group, **{key: getattr(type(group), key)}) if named else group
