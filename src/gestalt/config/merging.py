"""Merge the layers of a configuration into the schema: each key must exist, and each value have the
key's type.
"""

import json
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf

from gestalt.config.identity import flatten
from gestalt.config.keys import Keys, fields_below, in_words, literals, options_of
from gestalt.config.schema import ConfigError, Experiment
from gestalt.support.names import nearest

MAPPINGS = tuple(name for name, item in fields_below(Experiment) if get_origin(item.type) is dict)
"""Keys whose value is a mapping."""


def merge(layers: list[tuple[str, Keys]]) -> Experiment:
    """Merge layers, such as files and the command line, into the schema; later ones win.

    A layer adds to a mapping such as ``image.inits``; an empty one clears it.

    Args:
        layers: the name of each layer's place, for messages, and its nested keys.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, or an interpolation, which could read
            the environment.
    """
    merged: Any = OmegaConf.create()
    for origin, layer in layers:
        converted(layer, Experiment, origin=origin)  # alone, so that a message names its place
        if "${" in json.dumps(layer):
            raise ConfigError(
                f"interpolations such as ${{KEY}} are not supported (in {origin}); write the value"
            )
        for key, value in flatten(layer, keep_empty=True).items():
            if value == {} and key in MAPPINGS:
                OmegaConf.update(merged, key, {}, merge=False)
        merged = OmegaConf.unsafe_merge(merged, layer)
    plain = OmegaConf.to_container(merged)
    return converted(plain, Experiment, origin="all layers")


def converted(value: Any, kind: Any, *, origin: str, key: str = "") -> Any:
    """Return a value as the type of its key; keys of a group without a value have their defaults.

    Args:
        value: as YAML gives it; a mapping for a group of keys.
        kind: the type, or the class of the group.
        origin: place of the value, for messages.
        key: name of the key; empty for the whole configuration.

    Raises:
        ConfigError: an unknown key, or a value of another type; the message names key, value and
            type.
    """
    options = options_of(kind)
    first = options[0]
    family, inner = get_origin(first), get_args(first)
    if first is Any or type(value) in options or value in inner:
        return value
    if is_dataclass(first) and isinstance(value, dict):
        return _group(value, first, origin=origin, key=key)
    if is_dataclass(kind):
        raise ConfigError(
            f"{key}: {value!r} given for a group of keys (in {origin}); choose one of its keys, "
            f"such as {key}.{fields(kind)[0].name}"
        )
    if family is list and isinstance(value, list):
        return [
            converted(item, inner[0], key=f"{key}[{number}]", origin=origin)
            for number, item in enumerate(value)
        ]
    if family is dict and isinstance(value, dict):
        return {
            name: converted(item, inner[1], key=f"{key}.{name}", origin=origin)
            for name, item in value.items()
        }
    if family is tuple and isinstance(value, list):
        if len(value) == len(inner) and all(type(number) in (int, float) for number in value):
            with suppress(OverflowError):
                return tuple(float(number) for number in value)
        raise ConfigError(f"{key}: {value} is not {len(inner)} numbers (in {origin})")
    if isinstance(value, str | int | float):
        for option in options:
            with suppress(TypeError, ValueError, OverflowError):
                return _scalar(value, option)
    if family is list and not isinstance(value, dict | None):
        raise ConfigError(f"{key}: {value} is not a list; write [{value}] (in {origin})")
    if family in (list, dict):
        raise ConfigError(f"{key}: must be {in_words(kind)} (in {origin})")
    words = literals(kind)
    must = nearest(str(value), words) if words else f"must be {in_words(kind)}"
    raise ConfigError(f"{key}={'null' if value is None else value}: {must} (in {origin})")


def _group(values: Keys, group: Any, *, origin: str, key: str) -> Any:
    """Build a group of keys from their values."""
    kinds = {item.name: item.type for item in fields(group)}
    built = {}
    for name, value in values.items():
        inner = f"{key}.{name}".removeprefix(".")
        if name not in kinds:
            raise ConfigError(
                f"{inner}: {key or 'the experiment'} has no key {name!r} (in {origin}); "
                f"{nearest(name, sorted(kinds))}"
            )
        built[name] = converted(value, kinds[name], origin=origin, key=inner)
    return group(**built)


def _scalar(value: str | float, kind: Any) -> Any:
    """Convert a word or a number to a type; a TypeError or a ValueError says that it does not
    fit.
    """
    if kind is str:
        return str(value)
    if kind is float and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, str):
        return int(value)
    if kind is bool and value in (0, 1):
        return bool(value)
    raise TypeError
