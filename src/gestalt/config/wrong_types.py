"""Messages for values of a wrong type, in the words of the schema."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.config.keys import fields_below, in_words, literals
from gestalt.config.schema import Experiment
from gestalt.support.names import nearest


def wrong_type(error: Exception, base: Any, layer: Any, *, given: dict[str, Any], origin: str) -> str:
    """Return the line for a value of a wrong type: key, value, file, and the choices if its type has some."""
    types = {name: item.type for name, item in fields_below(Experiment)}
    key = getattr(error, "full_key", None)
    if key is None:  # OmegaConf does not name the key of a tuple, nor that of a list given for a group of words
        for name, value in given.items():
            kind = types.get(name)
            length = len(get_args(kind)) if get_origin(kind) is tuple else 0
            if length and isinstance(value, list) and (len(value) != length or not all(type(number) in (int, float) for number in value)):
                return f"{name}: {value} is not {length} numbers (in {origin})"
            parent = name if get_origin(kind) is dict else name.rpartition(".")[0]
            if get_origin(types.get(parent)) in (dict, list, tuple):
                return f"{parent}: must be {in_words(types[parent])} (in {origin})"
        mixed = _mismatch(base, layer)
        return (
            f"{mixed}: a list where keys with values belong, or the reverse (in {origin})"
            if mixed
            else f"a value has a wrong type (in {origin})"
        )
    key = _whole_key(key, types, given=given)
    value = OmegaConf.select(layer, key)
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if "is not a ListConfig" in str(error):
        return f"{key}: {value} is not a list; write [{value}] (in {origin})"
    kind = _kind(key, types)
    choices = literals(kind)
    must = nearest(str(value), choices) if choices else f"must be {in_words(kind)}" if kind else str(error).split("\n")[0]
    return f"{key}={'null' if value is None else value}: {must} (in {origin})"


def _whole_key(key: str, types: dict[str, Any], *, given: dict[str, Any]) -> str:
    """Return a key as it is given; OmegaConf names one of a part, such as ``data.mixture[0].limit``, by its last word."""
    for name, parts in given.items():
        kinds = [kind for kind in get_args(types.get(name)) if is_dataclass(kind)]
        for number, part in enumerate(parts if kinds and isinstance(parts, list) else []):
            try:
                OmegaConf.merge(OmegaConf.structured(kinds[0]), part)
            except (OmegaConfBaseException, TypeError, ValueError) as error:
                return f"{name}[{number}].{key}" if getattr(error, "full_key", None) == key else key
    return key


def _kind(key: str, types: dict[str, Any]) -> Any:
    """Return the type of a key, of an entry such as ``image.inits.dino``, of an item, or of a part such as ``data.mixture[0].limit``."""
    parent, _, name = key.rpartition(".")
    if key in types:
        return types[key]
    if parent in types:
        return next(iter(get_args(types[parent])[1:]), None)
    if key.endswith("]"):
        return next(iter(get_args(types.get(key.partition("[")[0]))), None)
    parts = get_args(types.get(parent.partition("[")[0]))
    return next((item.type for part in parts if is_dataclass(part) for item in fields(part) if item.name == name), None)


def _mismatch(base: Any, layer: Any, *, above: str = "") -> str:
    """Return the first key whose value is a list in one of two layers and keys with values in the other."""
    for key in layer:
        below, value = base.get(key) if OmegaConf.is_dict(base) else None, layer.get(key)
        if OmegaConf.is_config(below) and OmegaConf.is_config(value):
            if OmegaConf.is_list(below) != OmegaConf.is_list(value):
                return f"{above}{key}"
            if OmegaConf.is_dict(value) and (deeper := _mismatch(below, value, above=f"{above}{key}.")):
                return deeper
    return ""
