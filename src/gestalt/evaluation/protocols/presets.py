"""The top-down protocols by name.  To add one: a ``Preset`` in a file of this folder, and its row here."""

from collections.abc import Iterator, Mapping

from gestalt.evaluation.protocols.clippy import CLIPPY_PAPER, CLIPPY_REPO
from gestalt.evaluation.protocols.mmseg import GROUPVIT, SHARED, TALK2DINO, TCL
from gestalt.evaluation.protocols.notebooks import DINOTXT, TIPS
from gestalt.evaluation.protocols.preset import Preset
from gestalt.evaluation.protocols.sclip import CLEARCLIP, MASKCLIP, NACLIP, PROXYCLIP, SCLIP_OWN
from gestalt.evaluation.protocols.top_down import TopDownProtocol
from gestalt.support.plugins import Registry

_ROWS: dict[str, Preset] = {
    "whole_square": Preset(protocol=TopDownProtocol(name="whole_square", input_size=224, resize="square"), sized_by_tower=True),
    "whole_short_side": Preset(protocol=TopDownProtocol(name="whole_short_side", input_size=448, resize="short_side"), sized_by_tower=True),
    "clippy-paper": CLIPPY_PAPER,
    "clippy-repo": CLIPPY_REPO,
    "mmseg-448": SHARED,
    "mmseg-448/groupvit": GROUPVIT,
    "mmseg-448/tcl": TCL,
    "mmseg-448/talk2dino": TALK2DINO,
    "sclip-336": SCLIP_OWN,
    "sclip-336/sclip": SCLIP_OWN,
    "sclip-336/naclip": NACLIP,
    "sclip-336/proxyclip": PROXYCLIP,
    "clearclip-448": CLEARCLIP,
    "clearclip-448/clearclip": CLEARCLIP,
    "clearclip-448/maskclip": MASKCLIP,
    "dinotxt-512": DINOTXT,
    "tips-448": TIPS,
}
PRESETS = Registry("protocols", _ROWS)
"""Presets by name; ``sclip-336`` and ``clearclip-448`` are their first variants.  Installed packages may add some."""


class _Protocols(Mapping[str, TopDownProtocol]):
    """The protocols of PRESETS by name, without the exceptions for a label set; names are known without importing a package."""

    def __getitem__(self, name: str) -> TopDownProtocol:
        return PRESETS[name].protocol

    def __iter__(self) -> Iterator[str]:
        return iter(PRESETS)

    def __len__(self) -> int:
        return len(PRESETS)

    def __contains__(self, name: object) -> bool:
        return name in PRESETS


PROTOCOLS = _Protocols()
