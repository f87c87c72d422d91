"""Presets of top-down protocols, and the fields that several share.

A preset is data: a protocol and its changes for a label set.  Every number is from the repository that its ``source`` names; our own
choices are named in ``ours``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gestalt.evaluation.protocols.top_down import TopDownProtocol

_TEMPLATES = json.loads(Path(__file__).with_name("templates.json").read_text(encoding="utf-8"))

TEMPLATES: dict[str, tuple[str, ...]] = {name: tuple(row["templates"]) for name, row in _TEMPLATES.items()}
"""The field's sets of templates by name; ``templates.json`` has their sources."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A protocol and its exceptions, each a mapping of the protocol's fields.

    Attributes:
        protocol: the fields without exceptions.
        label_sets: changes for a label set.
        unrefined: changes under ``refinement=none``, for a protocol that refines.
        no_background: changes for label sets without a background class.
        fixed: changes under ``defects=fixed``, which also correct the vocabulary.
        sized_by_tower: True if ``input_size`` is by default the tower's evaluation size.
    """

    protocol: TopDownProtocol
    label_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unrefined: Mapping[str, Any] = field(default_factory=dict)
    no_background: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sized_by_tower: bool = False

    def fields(self, label_set: str | None, *, background: bool, defects: str | None, refinement: str | None) -> dict[str, Any]:
        """Return the exceptions for a label set, defects and refinement; later ones take precedence."""
        fields = dict(self.label_sets.get(label_set or "", {}))
        fields |= self.unrefined if refinement == "none" else {}
        fields |= {} if background else self.no_background
        return fields | ({**self.fixed, "defects": "fixed"} if defects == "fixed" else {})


PIXELS = "normalisation of pixels: the tower's own"
NARROW = "an image so long that it is narrower than a window: stretched to whole patches, not padded with zeros"

NOTHING_IS_BACKGROUND: dict[str, Any] = {"background": "prompts", "threshold": None}

MMSEG: dict[str, Any] = {
    **{"input_size": 448, "resize": "keep_ratio", "long_limit": 2048, "rounding": "half_up", "interpolation": "bilinear"},
    **{"antialias": False, "window": 448, "stride": 224, "fit": "stretch", "lower_case": False},
}
"""Resize, windows and merge of the mmsegmentation lineage.  OpenCV's bilinear, in fixed point, may differ by a grey level."""
