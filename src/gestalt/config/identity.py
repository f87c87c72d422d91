"""The identity of a run: the keys that tell it from other runs, and their hash."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from gestalt.config.keys import default_of, fields_below
from gestalt.config.schema import Experiment, uses_made
from gestalt.config.schema_loss import NOUN_LIST, terms_of
from gestalt.tables import TERMS

NOT_HASHED = tuple(name for name, item in fields_below(Experiment) if not item.metadata["key"].hashed)
"""Keys that do not change a result's expected value: paths, and how the work is distributed and displayed."""

LATER_KEYS = {name: default_of(item) for name, item in fields_below(Experiment) if item.metadata["key"].later}
"""Keys that older runs lack -> default, at which a run behaves as those did; a key at its default is not hashed, so hashes stay equal."""

DECIDES_MADE = (
    *(f"image.{key}" for key in ("backbone", "patch_size", "width", "depth", "heads", "stem")),
    *("data.source", "data.recipe", "data.window_shards", "trainer.precision"),
)
"""Keys outside ``pretraining`` that decide the weights that ``pretrain`` makes; of ``pretraining``, all that are hashed do."""

DINO_ONLY = tuple(name for name, item in fields_below(Experiment) if item.metadata["key"].only_for == "dino")
"""Keys of ``pretraining`` that do not affect init supervised."""


def to_yaml(config: Experiment) -> str:
    """Return the resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> dict[str, Any]:
    """Return the resolved configuration as dicts and lists."""
    plain = json.loads(json.dumps(asdict(config)))
    assert isinstance(plain, dict)
    return plain


def flatten(tree: dict[str, Any], prefix: str = "", *, keep_empty: bool = False) -> dict[str, Any]:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``; an empty mapping below is left out, or kept as a value with ``keep_empty``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and (value or not keep_empty)
        flat |= flatten(value, f"{prefix}{key}.", keep_empty=keep_empty) if inner else {prefix + key: value}
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """Turn ``{"a.b": 1}`` into ``{"a": {"b": 1}}``."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def hashed_keys(config: Experiment) -> dict[str, Any]:
    """Return the keys, flat, that two runs must share to be the same run.

    Of ``data.root``, the roots of a mixture, ``data.manifest`` and ``image.weights`` only the last part of the path counts, so that data
    may move.  Accumulated batches count as one batch of their size.  The keys of ``pretraining`` count if the run starts from the weights
    that ``pretrain`` makes, the options of a term of the loss if the run has that term, and :data:`LATER_KEYS` unless at their defaults.
    """
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED and not key.startswith("pretraining.")}
    if uses_made(config):
        flat |= {key: value for key, value in made_keys(config).items() if key.startswith("pretraining.")}
    flat = {key: value for key, value in flat.items() if key not in LATER_KEYS or value != LATER_KEYS[key]}
    terms = terms_of(config.loss)
    unused = tuple(f"loss.{term}_" for term in TERMS if term not in terms)
    kept: tuple[str, ...] = NOUN_LIST if any(TERMS.fact(term, "reads_nouns", False) for term in terms) else ()
    if config.loss.nouns_alike is not None:
        kept = (*kept, "loss.nouns_phrase") if kept else ()  # the phrase decides which nouns are alike
    flat = {key: value for key, value in flat.items() if key in kept or not key.startswith((*unused, "loss.terms."))}
    flat |= {f"loss.terms.{name}": weight for name, weight in terms.items()}
    flat["data.batch_size"] *= flat["trainer.accumulate_grad_batches"]
    flat["trainer.accumulate_grad_batches"] = 1
    flat["data.mixture"] = [_last_parts(part, "root", "manifest") for part in flat["data.mixture"]]
    return _last_parts(flat, "data.root", "data.manifest", "image.weights")


def _last_parts(keys: dict[str, Any], *paths: str) -> dict[str, Any]:
    """Return the keys, with each path cut to its last part."""
    return keys | {key: Path(keys[key]).name for key in paths if keys[key] is not None}


def made_keys(config: Experiment) -> dict[str, Any]:
    """Return the keys, flat, that decide the weights that ``pretrain`` makes for ``image.init``, besides the data itself.

    :data:`LATER_KEYS` at their defaults are left out, so that files keep their names.
    """
    ignored = (*NOT_HASHED, *(DINO_ONLY if config.image.init == "supervised" else ()))
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in ignored}
    deciding = {key: value for key, value in flat.items() if key in DECIDES_MADE or key.startswith("pretraining.")}
    deciding = {key: value for key, value in deciding.items() if key not in LATER_KEYS or value != LATER_KEYS[key]}
    return {"init": config.image.init, **deciding}


def config_hash(config: Experiment) -> str:
    """Return 12 hexadecimal digits over :func:`hashed_keys`."""
    return hashlib.sha256(json.dumps(hashed_keys(config), sort_keys=True).encode()).hexdigest()[:12]
