"""Names of timm's and open_clip's models, read from their files: importing them takes seconds,
because they import torch.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gestalt.support.names import suggestion

DESCRIPTION = "open_clip_config.json"

PLAIN = r"[^:]*"
"""Pattern of an architecture's name; with a colon it would name files of another model, in a folder
or on the hub.
"""


@cache
def timm_models() -> tuple[str, ...]:
    """Return the names of timm's models, sorted, without those that it has renamed."""
    return tuple(
        sorted(set(re.findall(r"^@register_model\s*\ndef (\w+)", _sources(), flags=re.MULTILINE)))
    )


def is_listed(name: str) -> bool:
    """Return True if timm's files contain this name, of a present or a renamed model; False only if
    timm has no such model.
    """
    return re.search(rf"\b{re.escape(name)}\b", _sources()) is not None


def check_backbone_name(backbone: str) -> None:
    """Check that ``image.backbone`` is a name of timm's, without a tag of weights.

    Raises:
        ValueError: it is not; the message names the nearest.
    """
    name, _, tag = backbone.partition(".")
    if not is_listed(name):
        raise ValueError(
            f"image.backbone {backbone!r} is not a timm model; {nearest_models(backbone)}".rstrip(
                "; "
            )
        )
    if tag:
        raise ValueError(
            f"image.backbone {backbone!r} names weights: write image.backbone={name} and let "
            "image.init choose them"
        )


def nearest_models(name: str) -> str:
    """Return the timm models that a name may mean, for a message; empty if none is near."""
    return suggestion(name.partition(".")[0], timm_models(), count=3)


@cache
def _sources() -> str:
    """Return the text of timm's files of models."""
    files = sorted((folder_of("timm") / "models").glob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def open_clip_description(name: str) -> Path:
    """Return the JSON that describes a model of open_clip, ``FOLDER`` or ``ARCHITECTURE:TAG``.

    Raises:
        ValueError: there is none; names the nearest architecture.
    """
    if Path(name).is_dir():
        file = Path(name) / DESCRIPTION
        if file.is_file():
            return file
        raise ValueError(
            f"open_clip:{name}: the folder has no {DESCRIPTION}; name one that open_clip saved a "
            "model in"
        )
    architecture = name.partition(":")[0]
    known = {path.stem: path for path in (folder_of("open_clip") / "model_configs").glob("*.json")}
    if architecture not in known:
        hint = suggestion(architecture, known, count=3)
        why = f"open_clip has no such architecture, and there is no such folder; {hint}"
        raise ValueError(f"open_clip:{name}: {why}".rstrip("; "))
    return known[architecture]


def folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    return Path(find_spec(package).origin).parent  # type: ignore[union-attr, arg-type]
