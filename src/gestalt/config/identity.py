"""Identity: the keys that tell two runs apart, and their hash."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from gestalt.config.schema import Experiment, uses_made

# What does not change a result's expected value: where files lie, and how the work is spread and shown.
NOT_HASHED = (
    *("resume", "benchmark_root", "data.workers", "checkpoint_every_steps", "evaluation.pictures"),
    *("data.cache", "data.cache_gib", "data.max_bad_share"),
    *(f"trainer.{key}" for key in ("accelerator", "strategy", "devices", "num_nodes", "max_time", "log_every_n_steps", "profiler")),
    *(f"trainer.{key}" for key in ("enable_progress_bar", "enable_model_summary", "detect_anomaly", "num_sanity_val_steps")),
    "image.gradient_checkpointing",
    *(f"pretraining.{key}" for key in ("score_every_steps", "knn_bank", "knn_queries")),
)


# What decides the weights that ``pretrain`` makes; of ``pretraining``, every key that is not in NOT_HASHED.
DECIDES_MADE = (
    *(f"image.{key}" for key in ("backbone", "patch_size", "width", "depth", "heads", "stem")),
    *("data.source", "data.recipe", "data.window_shards", "trainer.precision"),
)


DINO_ONLY = tuple(
    f"pretraining.{key}"
    for key in (
        *("local_size", "local_area", "local_crops", "head_width", "bottleneck", "prototypes", "frozen_head_steps", "momentum"),
        *("student_temperature", "teacher_temperature", "warmup_teacher_temperature", "warmup_teacher_steps", "centre_momentum"),
    )
)


def to_yaml(config: Experiment) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> dict[str, Any]:
    """The resolved configuration as dicts and lists."""
    plain = json.loads(json.dumps(asdict(config)))
    assert isinstance(plain, dict)
    return plain


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def hashed_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that two runs must share to be the same run.

    Of folders and files the last name counts, so that data may move: ``data.root``, those of a mixture, ``data.manifest`` and
    ``image.weights``.  How an init is made counts where the run starts from a made one.
    """
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED and not key.startswith("pretraining.")}
    if uses_made(config):
        flat |= {key: value for key, value in made_keys(config).items() if key.startswith("pretraining.")}  # the others are there
    flat["data.mixture"] = [_named(part, "root", "manifest") for part in flat["data.mixture"]]
    return _named(flat, "data.root", "data.manifest", "image.weights")


def _named(keys: dict[str, Any], *paths: str) -> dict[str, Any]:
    """The keys, with the last name of each path in place of it."""
    return keys | {key: Path(keys[key]).name for key in paths if keys[key] is not None}


def made_keys(config: Experiment) -> dict[str, Any]:
    """The keys, flat, that decide the weights that ``pretrain`` makes for ``image.init``, beside what the data holds."""
    flat = flatten(to_plain(config))
    passed_over = (*NOT_HASHED, *(DINO_ONLY if config.image.init == "supervised" else ()))
    decides = [key for key in flat if key in DECIDES_MADE or key.startswith("pretraining.")]
    return {"init": config.image.init} | {key: flat[key] for key in decides if key not in passed_over}


def config_hash(config: Experiment) -> str:
    """12 hex digits over :func:`hashed_keys`."""
    return hashlib.sha256(json.dumps(hashed_keys(config), sort_keys=True).encode()).hexdigest()[:12]
