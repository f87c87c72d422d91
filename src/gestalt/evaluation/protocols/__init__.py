"""Protocols: the settings that a benchmark is scored by, as frozen dataclasses with a version and a digest.

To add one: a row in ``presets.py`` for segmentation, or in the table beside its dataclass.  A changed field, such as
``build_protocol(name, input_size=64)``, gives another digest.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from gestalt.evaluation.protocols.bottom_up import GROUPING_PROTOCOLS, PARTITIONS, BottomUpProtocol
from gestalt.evaluation.protocols.classification import (
    CLASSIFICATION_PROTOCOLS,
    ROBUSTNESS_PROTOCOLS,
    ClassificationProtocol,
    RobustnessProtocol,
)
from gestalt.evaluation.protocols.image import ImageProtocol
from gestalt.evaluation.protocols.matching import MATCHING_PROTOCOLS, MatchingProtocol
from gestalt.evaluation.protocols.predictions import PredictionsProtocol
from gestalt.evaluation.protocols.preset import TEMPLATES, Preset
from gestalt.evaluation.protocols.presets import PRESETS, PROTOCOLS
from gestalt.evaluation.protocols.top_down import Crf, TopDownProtocol
from gestalt.support.names import nearest

__all__ = [
    "CLASSIFICATION_PROTOCOLS",
    "GROUPING_PROTOCOLS",
    "MATCHING_PROTOCOLS",
    "PARTITIONS",
    "PRESETS",
    "PROTOCOLS",
    "ROBUSTNESS_PROTOCOLS",
    "TEMPLATES",
    "BottomUpProtocol",
    "ClassificationProtocol",
    "Crf",
    "ImageProtocol",
    "MatchingProtocol",
    "PredictionsProtocol",
    "Preset",
    "RobustnessProtocol",
    "TopDownProtocol",
    "build_protocol",
]

Kind = TypeVar("Kind", bound=ImageProtocol)


@overload
def build_protocol(
    name: str, *, label_set: str | None = None, has_background: bool = True, tower_size: int | None = None, **changes: Any
) -> TopDownProtocol: ...


@overload
def build_protocol(name: str, table: Mapping[str, Kind], **changes: Any) -> Kind: ...


def build_protocol(
    name: str,
    table: Mapping[str, ImageProtocol] = PROTOCOLS,
    *,
    label_set: str | None = None,
    has_background: bool = True,
    tower_size: int | None = None,
    **changes: Any,
) -> ImageProtocol:
    """Return the protocol of a name with changed fields; None keeps the protocol's value.

    ``background=prompts`` drops the threshold of a protocol that has one.

    Args:
        name: a row of the table.
        table: protocols by name; by default the top-down ones, the only ones that use the next three arguments.
        label_set: the label set whose exceptions hold; None for none.
        has_background: True if the label set has a background class.
        tower_size: pixels; the size of a protocol that fixes none of its own.
        changes: fields, ``defects`` among them.

    Raises:
        ValueError: unknown protocol or field (the message names the nearest and all), fields that contradict each other, or a threshold
            for a label set without a background class.
    """
    if name not in table:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, table)}")
    protocol = table[name]
    fields = [field.name for field in dataclasses.fields(protocol)]
    for key in changes:
        if key not in fields:
            raise ValueError(f"protocol {name} has no field {key!r}; {nearest(key, fields)}")
    changes = {key: value for key, value in changes.items() if value is not None}
    if not isinstance(protocol, TopDownProtocol):
        return dataclasses.replace(protocol, **changes)
    reading = {key: changes.pop(key) for key in ("reading", "positions", "proxy") if key in changes}
    changes = _with_exceptions(name, changes, label_set=label_set, has_background=has_background, tower_size=tower_size)
    return dataclasses.replace(protocol, **changes).read_by(**reading)


def _with_exceptions(
    name: str, changes: dict[str, Any], *, label_set: str | None, has_background: bool, tower_size: int | None
) -> dict[str, Any]:
    """Return the changes of a top-down protocol, over its preset's exceptions and the tower's size."""
    preset = PRESETS[name]
    if changes.get("background") == "prompts":
        changes = {"threshold": None, "area_threshold": None, **changes}
    elif not has_background and preset.no_background and "background" not in changes and "threshold" in changes:
        raise ValueError(
            f"protocol {name}: threshold={changes['threshold']} is for a background class, {label_set or 'this label set'} has none"
        )
    sized = {"input_size": tower_size} if preset.sized_by_tower and tower_size is not None else {}
    chosen = {key: changes.get(key) for key in ("defects", "refinement")}
    return {**sized, **preset.fields(label_set, background=has_background, **chosen), **changes}
