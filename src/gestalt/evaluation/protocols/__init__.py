"""Protocols: how a benchmark is scored, as frozen dataclasses with a version and a digest.

To add one: a row in ``presets.py``, or here for grouping.  A size or a threshold of one's own is ``build_protocol(name, input_size=64)``,
and has another digest.
"""

import dataclasses
from typing import Any, TypeVar

from gestalt.evaluation.protocols.bottom_up import BottomUpProtocol
from gestalt.evaluation.protocols.classification import ClassificationProtocol, RobustnessProtocol
from gestalt.evaluation.protocols.image import ImageProtocol
from gestalt.evaluation.protocols.matching import MatchingProtocol
from gestalt.evaluation.protocols.preset import TEMPLATES, Preset
from gestalt.evaluation.protocols.presets import PRESETS
from gestalt.evaluation.protocols.top_down import Crf, TopDownProtocol
from gestalt.support.names import nearest

__all__ = [
    "CLASSIFICATION_PROTOCOLS",
    "GROUPING_PROTOCOLS",
    "MATCHING_PROTOCOLS",
    "PRESETS",
    "PROTOCOLS",
    "PROTOCOL_TABLES",
    "ROBUSTNESS_PROTOCOLS",
    "TEMPLATES",
    "BottomUpProtocol",
    "ClassificationProtocol",
    "Crf",
    "ImageProtocol",
    "MatchingProtocol",
    "Preset",
    "RobustnessProtocol",
    "TopDownProtocol",
    "build_classification_protocol",
    "build_grouping_protocol",
    "build_matching_protocol",
    "build_protocol",
    "build_robustness_protocol",
]

Kind = TypeVar("Kind", bound=ImageProtocol)

PROTOCOLS: dict[str, TopDownProtocol] = {name: preset.protocol for name, preset in PRESETS.items()}
"""What each name stands for, before the exceptions for a label set."""

GROUPING_PROTOCOLS: dict[str, BottomUpProtocol] = {
    "pca_square": BottomUpProtocol(name="pca_square", input_size=224, resize="square"),
    "pca_short_side": BottomUpProtocol(name="pca_short_side", input_size=448, resize="short_side"),
    "kmeans_square": BottomUpProtocol(name="kmeans_square", method="kmeans"),
    "kmeans_short_side": BottomUpProtocol(name="kmeans_short_side", method="kmeans", input_size=448, resize="short_side"),
    "spectral_square": BottomUpProtocol(name="spectral_square", method="spectral"),
    "spectral_short_side": BottomUpProtocol(name="spectral_short_side", method="spectral", input_size=448, resize="short_side"),
    "attention_square": BottomUpProtocol(name="attention_square", method="attention", groups=None, upsample="nearest"),
    "attention_short_side": BottomUpProtocol(
        name="attention_short_side", method="attention", groups=None, upsample="nearest", input_size=448, resize="short_side"
    ),
}

MATCHING_PROTOCOLS: dict[str, MatchingProtocol] = {
    "clusters_square": MatchingProtocol(name="clusters_square"),
    "clusters_short_side": MatchingProtocol(name="clusters_short_side", input_size=320, resize="short_side"),
}

CLASSIFICATION_PROTOCOLS: dict[str, ClassificationProtocol] = {
    "openai_80": ClassificationProtocol(name="openai_80"),
    "one_prompt": ClassificationProtocol(name="one_prompt", resize="square", templates=("a photo of {article} {}",), lower_case=True),
}

ROBUSTNESS_PROTOCOLS: dict[str, RobustnessProtocol] = {
    "map_majority": RobustnessProtocol(name="map_majority", reduction="majority"),
    "map_max_logit": RobustnessProtocol(name="map_max_logit", reduction="max_logit"),
    "map_mean_logit": RobustnessProtocol(name="map_mean_logit", reduction="mean_logit"),
    "scenes_majority": RobustnessProtocol(name="scenes_majority", third_class=("grass", "water")),
    "pooled": RobustnessProtocol(name="pooled", reduction="pooled"),
}

PROTOCOL_TABLES: dict[str, tuple[str, ...]] = {
    "protocol": tuple(PROTOCOLS),
    "grouping_protocol": tuple(GROUPING_PROTOCOLS),
    "classification_protocol": tuple(CLASSIFICATION_PROTOCOLS),
    "robustness_protocol": tuple(ROBUSTNESS_PROTOCOLS),
    "matching_protocol": tuple(MATCHING_PROTOCOLS),
}
"""The names that each key of ``evaluation`` may have."""


def build_protocol(
    name: str, *, label_set: str | None = None, has_background: bool = True, tower_size: int | None = None, **changes: Any
) -> TopDownProtocol:
    """The protocol of that name as it is for a label set, with fields changed; None leaves the protocol's own.

    Asking for background=prompts drops the threshold of a protocol that has one.

    Args:
        name: a row of ``PRESETS``.
        label_set: whose exceptions hold; None for none.
        has_background: whether the label set has a background class.
        tower_size: pixels; the size of a protocol that fixes none of its own.
        changes: fields, ``defects`` among them.

    Raises:
        ValueError: no such protocol or field (the message names the nearest and all), fields that contradict each other, or a threshold
            for a background that is not there.
    """
    protocol, wanted = _found(PROTOCOLS, name, changes=changes)
    preset = PRESETS[name]
    if wanted.get("background") == "prompts":
        wanted = {"threshold": None, "area_threshold": None, **wanted}
    elif not has_background and preset.no_background and "background" not in wanted and "threshold" in wanted:
        raise ValueError(
            f"protocol {name}: threshold={wanted['threshold']} is for a background class, {label_set or 'this label set'} has none"
        )
    sized = {"input_size": tower_size} if preset.sized_by_tower and tower_size is not None else {}
    asked = {key: wanted.get(key) for key in ("defects", "refinement")}
    exceptions = preset.fields(label_set, background=has_background, **asked)
    return dataclasses.replace(protocol, **{**sized, **exceptions, **wanted})


def build_grouping_protocol(name: str, **changes: Any) -> BottomUpProtocol:
    """The grouping protocol of that name, with fields changed; None leaves the protocol's own.

    Raises:
        ValueError: as ``build_protocol``.
    """
    protocol, wanted = _found(GROUPING_PROTOCOLS, name, changes=changes)
    return dataclasses.replace(protocol, **wanted)


def build_matching_protocol(name: str, **changes: Any) -> MatchingProtocol:
    """The matching protocol of that name, with fields changed; None leaves the protocol's own.

    Raises:
        ValueError: as ``build_protocol``.
    """
    protocol, wanted = _found(MATCHING_PROTOCOLS, name, changes=changes)
    return dataclasses.replace(protocol, **wanted)


def build_classification_protocol(name: str, **changes: Any) -> ClassificationProtocol:
    """The classification protocol of that name, with fields changed; None leaves the protocol's own.

    Raises:
        ValueError: as ``build_protocol``.
    """
    protocol, wanted = _found(CLASSIFICATION_PROTOCOLS, name, changes=changes)
    return dataclasses.replace(protocol, **wanted)


def build_robustness_protocol(name: str, **changes: Any) -> RobustnessProtocol:
    """The robustness protocol of that name, with fields changed; None leaves the protocol's own.

    Raises:
        ValueError: as ``build_protocol``.
    """
    protocol, wanted = _found(ROBUSTNESS_PROTOCOLS, name, changes=changes)
    return dataclasses.replace(protocol, **wanted)


def _found(table: dict[str, Kind], name: str, *, changes: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
    """The row of that name, and the changes that are wanted, all of them fields."""
    if name not in table:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, table)}")
    fields = [field.name for field in dataclasses.fields(table[name])]
    for key in changes:
        if key not in fields:
            raise ValueError(f"protocol {name} has no field {key!r}; {nearest(key, fields)}")
    return table[name], {key: value for key, value in changes.items() if value is not None}
