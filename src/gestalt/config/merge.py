"""Merge layers of keys, such as files and the command line, into a configuration."""

import json
from typing import Any, get_origin

from omegaconf import OmegaConf

from gestalt.config.schema import Experiment
from gestalt.support.keys import Keys, flatten
from gestalt.support.typed import ConfigError, convert, fields_below

MAPPINGS = tuple(name for name, item in fields_below(Experiment) if get_origin(item.type) is dict)
"""Keys whose value is a mapping."""


def merge(layers: list[tuple[str, Keys]]) -> Experiment:
    """Merge layers, such as files and the command line, into a configuration.  Later layers win.

    A layer adds to a mapping such as ``image.inits``. An empty mapping clears it.

    Args:
        layers: origin of each layer, for messages, and its nested keys.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or a value is an interpolation,
            which could read the environment.
    """
    merged: Any = OmegaConf.create()
    for origin, layer in layers:
        convert(layer, Experiment, origin=origin)  # separately, so that a message names the origin
        if "${" in json.dumps(layer):
            raise ConfigError(
                f"interpolations such as ${{KEY}} are not supported (in {origin}); write the value"
            )
        for key, value in flatten(layer, keep_empty=True).items():
            if value == {} and key in MAPPINGS:
                OmegaConf.update(merged, key, {}, merge=False)
        merged = OmegaConf.unsafe_merge(merged, layer)
    plain = OmegaConf.to_container(merged)
    return convert(plain, Experiment, origin="all layers")
