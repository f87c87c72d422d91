"""The identity of a run: the keys that tell it from other runs, and their hash."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import yaml

from gestalt.config.schema import Experiment
from gestalt.losses.keys import NOUN_LIST, terms_of
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.keys import Keys, fields_below, flatten, unflatten
from gestalt.tables import TERMS

NOT_HASHED = tuple(
    name for name, item in fields_below(Experiment) if not item.metadata["key"].hashed
)
"""Keys that do not change a result's expected value: paths, and how the work is distributed and
displayed.
"""


def to_yaml(config: Experiment) -> str:
    """Return the resolved configuration as YAML."""
    return yaml.safe_dump(to_plain(config), sort_keys=False)


def to_plain(config: Experiment) -> Keys:
    """Return the resolved configuration as dicts and lists, to be written or compared: URLs have no
    user info, query or fragment.
    """
    return change_texts(json.loads(json.dumps(asdict(config))), without_secrets)


def keys_below(config: Experiment, prefixes: tuple[str, ...]) -> Keys:
    """Return the keys that start with one of some prefixes of overrides, such as ``evaluation.`` or
    ``data.root=``, as dicts.
    """
    flat = flatten(to_plain(config)).items()
    return unflatten({key: value for key, value in flat if f"{key}=".startswith(prefixes)})


def hashed_keys(config: Experiment) -> Keys:
    """Return the keys, flat, that two runs must share to be the same run.

    Of ``data.root``, the roots of a mixture, ``data.manifest``, ``image.weights`` and the file of a
    benchmark only the last part of the path counts, so that data may move, and of a URL neither
    user info, query nor fragment, so that a token may change.  Accumulated batches count as one
    batch of their size.  The options of a term of the loss count if the run has that term.
    """
    terms = terms_of(config.loss)
    read: tuple[str, ...] = (
        NOUN_LIST if any(term in TERMS and TERMS.row(term).reads_nouns for term in terms) else ()
    )
    if read and config.loss.nouns_alike is not None:
        read = (*read, "loss.nouns_phrase")  # the phrase decides which nouns are alike
    unread = ("loss.terms.", *(f"loss.{term}_" for term in TERMS if term not in terms))
    flat = {key: value for key, value in flatten(to_plain(config)).items() if key not in NOT_HASHED}
    flat = {key: value for key, value in flat.items() if key in read or not key.startswith(unread)}
    flat |= {f"loss.terms.{name}": weight for name, weight in terms.items()}
    flat["data.batch_size"] *= flat["trainer.accumulate_grad_batches"]
    flat["trainer.accumulate_grad_batches"] = 1
    flat["data.mixture"] = [_last_parts(part, "root", "manifest") for part in flat["data.mixture"]]
    flat["evaluation.benchmarks"] = [Path(name).name for name in flat["evaluation.benchmarks"]]
    return _last_parts(flat, "data.root", "data.manifest", "image.weights")


def _last_parts(keys: Keys, *paths: str) -> Keys:
    """Return the keys, with each path cut to its last part."""
    return keys | {key: Path(keys[key]).name for key in paths if keys[key] is not None}


DEFAULTS = flatten(to_plain(Experiment()))
"""The keys of the schema, flat, with their defaults."""


def config_hash(config: Experiment) -> str:
    """Return 12 hexadecimal digits over those of :func:`hashed_keys` that differ from their
    defaults: a new key changes no hash.
    """
    keys = {
        key: value
        for key, value in hashed_keys(config).items()
        if key not in DEFAULTS or value != DEFAULTS[key]
    }
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]
