"""A scale's limits hold for the data that the scale names; other data are read whole unless their user limits them."""

from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.config.identity import unflatten
from gestalt.config.schema_data import Data

LIMITS = ("data.limit", "pretraining.limit")
"""Keys that read the first samples only."""


def lifted(scale: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return, as a layer above the scale's, null for each of its limits if the layers after it name other data; else an empty one.

    Data are other ones under another ``data.source``, or another ``data.root`` where the scale has one: a scale without a root leaves
    to its user where the data lie, and of ``scenes``, which are drawn without end, a limit is the length of an epoch.

    Args:
        scale: its keys, flat.
        later: the keys of the experiment and of the command line, flat, in order.
    """
    chosen = {key: value for layer in later for key, value in layer.items()}
    source, root = scale.get("data.source", Data().source), scale.get("data.root")
    same_source = chosen.get("data.source", source) == source
    same_root = root is None or chosen.get("data.root", root) == root
    return {} if same_source and same_root else unflatten({key: None for key in LIMITS if key in scale})
