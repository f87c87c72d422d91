"""A scale's limits hold for the data that the scale names; other data are read whole unless the user limits them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.config.identity import unflatten
from gestalt.config.schema_data import Data

LIMITS = ("data.limit", "pretraining.limit")
"""Keys that read the first samples only."""


def lifted(scale: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the layer that sets the scale's limits to null if later layers name other data, and an empty one otherwise.

    Data differ if ``data.source`` does, or ``data.root`` where the scale has one: a scale without a root leaves the place of the data
    to the user, and for ``scenes``, which are drawn without end, a limit is the length of an epoch.

    Args:
        scale: its keys, flat.
        later: the keys of the experiment and of the command line, flat, in order.
    """
    chosen = {key: value for layer in later for key, value in layer.items()}
    source, root = scale.get("data.source", Data().source), scale.get("data.root")
    same_source = chosen.get("data.source", source) == source
    same_root = root is None or chosen.get("data.root", root) == root
    return {} if same_source and same_root else unflatten({key: None for key in LIMITS if key in scale})
