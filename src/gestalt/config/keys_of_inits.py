"""Keys of ``pretraining`` for one init alone: ``pretraining.dino.steps`` is ``pretraining.steps`` where ``image.init`` is ``dino``."""

from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.config.schema import MADE_INITS, ConfigError, Image

Layer = Mapping[str, Any]


def resolve(layers: Sequence[tuple[str, Layer]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the layers with the keys of ``image.init`` in place of the shared ones of the same layer, and without those of other inits.

    A later layer wins over an earlier one, whichever of the two sets a key for one init.

    Args:
        layers: the layers of a configuration, in order, each as its origin and its nested content.

    Raises:
        ConfigError: a value in place of a group of keys.
    """
    init = Image().init
    for _, layer in layers:
        image = layer.get("image")
        init = image.get("init", init) if isinstance(image, Mapping) else init
    return [(origin, _resolved(layer, init=init, origin=origin)) for origin, layer in layers]


def for_one_init(layer: Layer) -> list[dict[str, Any]]:
    """Return the groups of a layer that are for one init, each under the keys' shared names, so that these can be checked."""
    return [{"pretraining": group} for group in _groups(layer).values()]


def _resolved(layer: Layer, *, init: str, origin: str) -> dict[str, Any]:
    groups = _groups(layer)
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            key = f"pretraining.{name}"
            raise ConfigError(f"{key}: {group!r} given for a group of keys (in {origin}); choose one of its keys, such as {key}.steps")
    if not groups:
        return dict(layer)
    shared = {key: value for key, value in layer["pretraining"].items() if key not in groups}
    return {**layer, "pretraining": shared | dict(groups.get(init, {}))}


def _groups(layer: Layer) -> dict[str, Any]:
    given = layer.get("pretraining")
    return {init: given[init] for init in MADE_INITS if init in given} if isinstance(given, Mapping) else {}
