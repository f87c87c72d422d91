"""Segmentation's protocols by name: the published ones, each with its exceptions, and our own.

To add one: a row in ``presets.yaml``, with its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gestalt.evaluation.protocols import TEMPLATES, without_none
from gestalt.measures.segmentation.protocol import TopDownProtocol
from gestalt.support.names import nearest
from gestalt.support.plugins import Registry
from gestalt.support.table_file import table_beside

NOTHING_IS_BACKGROUND: dict[str, Any] = {
    "background": "prompts",
    "threshold": None,
    "area_threshold": None,
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A protocol and its exceptions, each a mapping of the protocol's fields.

    Attributes:
        protocol: the fields without exceptions.
        label_sets: changes for a label set.
        unrefined: changes under ``refinement=none``, for a protocol that refines.
        fixed: changes under ``defects=fixed``, which also correct the vocabulary.
        sized_by_tower: True if ``input_size`` is by default the tower's evaluation size.
    """

    protocol: TopDownProtocol
    label_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unrefined: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    sized_by_tower: bool = False

    @property
    def no_background(self) -> Mapping[str, Any]:
        """Changes for label sets without a background class."""
        return {} if self.protocol.threshold is None else NOTHING_IS_BACKGROUND

    def build(
        self,
        *,
        label_set: str | None = None,
        has_background: bool = True,
        tower_size: int | None = None,
        **changes: Any,
    ) -> TopDownProtocol:
        """Return the protocol with its exceptions and changed fields; None keeps a field.

        ``background=prompts`` drops the threshold of a protocol that has one.

        Args:
            label_set: the label set whose exceptions hold; None for none.
            has_background: True if the label set has a background class.
            tower_size: pixels; the size of a protocol that fixes none of its own.
            changes: fields.

        Raises:
            ValueError: as ``ImageProtocol.changed``; or a threshold for a label set without a
                background class.
        """
        given = without_none(changes)
        dense = {key: given.pop(key) for key in ("reading", "positions", "proxy") if key in given}
        fields = dict(self.label_sets.get(label_set or "", {}))
        if self.sized_by_tower and tower_size is not None:
            fields["input_size"] = tower_size
        if given.get("refinement") == "none":
            fields |= self.unrefined
        if not has_background:
            fields |= self.no_background
        if given.get("defects") == "fixed":
            fields |= self.fixed
        if given.get("background") == "prompts":
            fields |= NOTHING_IS_BACKGROUND
        elif (
            not has_background
            and self.no_background
            and "background" not in given
            and "threshold" in given
        ):
            raise ValueError(
                f"protocol {self.protocol.name}: threshold={given['threshold']} is for a "
                "background class, "
                f"{label_set or 'this label set'} has none"
            )
        return self.protocol.changed(**{**fields, **given}).read_by(**dense)


def _preset(name: str, *, protocol: Mapping[str, Any], **exceptions: Any) -> Preset:
    """Return a row of the table as a preset; its templates are named by their set."""
    fields = {"name": name, **protocol}
    if "templates" in fields:
        fields["templates"] = TEMPLATES[fields["templates"]]
    return Preset(protocol=TopDownProtocol(**fields), **exceptions)


_TABLE: dict[str, dict[str, Any]] = table_beside(__file__)["presets"]
PRESETS = Registry("protocols", {name: _preset(name, **row) for name, row in _TABLE.items()})
"""Presets by name; ``sclip-336`` and ``clearclip-448`` are their first variants.  Installed
packages may add some.
"""


def top_down_protocol(name: str, **changes: Any) -> TopDownProtocol:
    """Return the protocol of a name, as ``Preset.build``.

    Raises:
        ValueError: an unknown name; or as ``Preset.build``.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, PRESETS)}")
    return PRESETS[name].build(**changes)
