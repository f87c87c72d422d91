"""Supervision: what a model's training and its scoring were allowed to see, as far as the fields of
a results file tell.  ``supervision.json`` has the published models whose training is known.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gestalt.encoders.inits import resolve
from gestalt.encoders.keys import is_file_of_weights
from gestalt.support.addresses import without_secrets
from gestalt.support.files import Fields
from gestalt.tables import IMAGE_TOWERS

NONE, UNKNOWN = "none", "unknown"


class Seen(NamedTuple):
    """What weights were trained with: captions, labels of whole images, and saliency or masks."""

    captions: str = NONE
    image_labels: str = NONE
    masks: str = NONE


NOTHING, NOT_STATED = Seen(), Seen(*[UNKNOWN] * 3)
FIELDS = (*Seen._fields, "tuned_with_masks")

SHIPPED = {
    "demo_dino.safetensors": NOTHING,
    "demo_supervised.safetensors": Seen(image_labels="classes of scenes"),
}
"""Files of weights that this package ships -> what they were trained with."""

BY_HAND = ("threshold", "prior", "prior_offset", "image_weight")
"""Keys of ``evaluation`` with which a user may give what was chosen on images with masks."""

BEST = "best.ckpt"


def supervision(record: Fields) -> dict[str, str]:
    """Return what the model of a results file and its scoring were allowed to see: ``none`` for
    nothing, ``unknown`` where the file does not tell.
    """
    if "predictions" in record:
        notes = record["predictions"]["notes"]
        return {field: str(notes.get(field, UNKNOWN)) for field in FIELDS}
    init, config = record["image_init"], record["config"]
    external = "model" in record
    start = init["requested"] if external else config.get("start")
    seen = _of_init(config.get("image", {}), init) if start is None else _of_name(str(start))
    if not external and record.get("steps") != 0:
        data = config.get("data", {})
        parts = data.get("mixture") or [data]
        source = " and ".join(map(_source, parts))
        count = record.get("data", {}).get("samples")
        pairs = f"pairs of {source}" if count is None else f"{count:,} pairs of {source}"
        seen = seen._replace(captions=_joined(seen.captions, pairs))
    return {**seen._asdict(), "tuned_with_masks": _tuned(record)}


def _of_init(image: Fields, init: Fields) -> Seen:
    """Return what the weights were trained with that the image tower of a run started from."""
    if image.get("family", "vit") not in IMAGE_TOWERS.built_in or image.get("weights"):
        return NOT_STATED
    word = image.get("inits", {}).get(init["requested"], init["resolved"])
    if word == "random":
        return NOTHING
    if is_file_of_weights(word):
        return SHIPPED.get(word, NOT_STATED)
    return _of_backbone(str(image.get("backbone")), word)


def _of_backbone(backbone: str, init: str) -> Seen:
    """Return what timm's weights of a backbone were trained with, by a word or a tag."""
    found = resolve(init, backbone=backbone)
    return NOT_STATED if found is None else _published(f"timm:{backbone}.{found.tag}")


def _of_name(name: str) -> Seen:
    """Return what the model ``kind:name`` was trained with; of a file or a run nothing is known."""
    kind, _, rest = name.partition(":")
    if kind != "classifier":
        return _published(name)
    backbone, _, tag = rest.partition(".")
    seen = _of_backbone(backbone, tag or "supervised")
    # its names are those of ImageNet's classes
    return seen._replace(image_labels=_joined(seen.image_labels, "ImageNet-1k"))


def _published(name: str) -> Seen:
    """Return what a published model was trained with, by its name."""
    for row in _table():
        if re.fullmatch(row["name"], name, flags=re.IGNORECASE):
            return Seen(row.get("captions", NONE), row.get("image_labels", NONE))
    return NOT_STATED


@cache
def _table() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(Path(__file__).with_suffix(".json").read_bytes())
    return rows


def _source(data: Fields) -> str:
    """Return a source of pairs with the last part of its path."""
    root = Path(without_secrets(str(data.get("root") or ""))).name
    return f"{data.get('source', UNKNOWN)} {root}".strip()


def _tuned(record: Fields) -> str:
    """Return the images with masks that values of the scoring were chosen on."""
    chosen = [
        f"{found['image_set']} {found['split']}, {found['images']} images"
        for entry in record["benchmarks"]
        if (found := entry.get("calibration"))
    ]
    if Path(record.get("checkpoint", "")).name == BEST:
        chosen.append("the checkpoint, by mIoU")
    evaluation = record["config"].get("evaluation", {})
    given = any(evaluation.get(key) is not None for key in BY_HAND)
    return _joined(*chosen, *[UNKNOWN] * given)


def _joined(*names: str) -> str:
    """Return different names as text, ``none`` without any."""
    return " and ".join(name for name in dict.fromkeys(names) if name != NONE) or NONE
