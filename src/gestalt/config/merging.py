"""Merge a layer of the configuration, such as a file or the command line, into those before it."""

from dataclasses import fields, is_dataclass
from typing import Any, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.config.identity import flatten
from gestalt.config.keys import fields_below
from gestalt.config.schema import ConfigError, Experiment
from gestalt.config.wrong_types import wrong_type
from gestalt.support.names import nearest

MAPPINGS = tuple(name for name, item in fields_below(Experiment) if get_origin(item.type) is dict)
"""Keys whose value is a mapping: a layer adds to it, and an empty one clears it."""


def merge(base: Any, layer: Any, *, origin: str) -> Any:
    """Merge the keys of a layer into a configuration; ``origin`` is the name of its file, for messages.

    Raises:
        ConfigError: an unknown key, or a value of a wrong type.
    """
    given = flatten(OmegaConf.to_container(layer))  # type: ignore[arg-type]
    for key, value in given.items():
        _check_key(key, value, origin=origin)
    try:
        merged = OmegaConf.merge(base, layer)
        for key in MAPPINGS:
            if OmegaConf.select(layer, key) == {}:  # OmegaConf would add nothing, and keep what earlier layers set
                OmegaConf.update(merged, key, {}, merge=False)
        return merged
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigError(wrong_type(error, base, layer, given=given, origin=origin)) from error


def _check_key(key: str, value: Any, *, origin: str) -> None:
    """Refuse a key that the schema does not have, and a value given for a whole group."""
    node: Any = Experiment
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not is_dataclass(node):
            return  # inside a mapping such as image.inits
        types = {item.name: item.type for item in fields(node)}
        if part not in types:
            group = ".".join(parts[:depth]) or "the experiment"
            raise ConfigError(f"{key}: {group} has no key {part!r} (in {origin}); {nearest(part, sorted(types))}")
        node = types[part]
    if is_dataclass(node) and value is not None:
        first = f"{key}.{fields(node)[0].name}"
        raise ConfigError(f"{key}: {value!r} given for a group of keys (in {origin}); choose one of its keys, such as {first}")
