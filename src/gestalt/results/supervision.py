"""Derive the supervision of a result, that is what training and scoring were allowed to see, from
the other fields of its results file.

``supervision.json`` lists the published models whose training data is known.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from gestalt.config.start import CLASSIFIER, OPEN_CLIP, read_start
from gestalt.encoders.inits import resolve
from gestalt.encoders.keys import is_file_of_weights
from gestalt.support.addresses import without_secrets
from gestalt.support.files import Fields
from gestalt.tables import IMAGE_TOWERS

NONE, UNKNOWN = "none", "unknown"


class Seen(NamedTuple):
    """The supervision of weights: captions, image-level labels, and saliency maps or masks."""

    captions: str = NONE
    image_labels: str = NONE
    masks: str = NONE


NOTHING, NOT_STATED = Seen(), Seen(*[UNKNOWN] * 3)
FIELDS = (*Seen._fields, "tuned_with_masks")
OF_PAIRS = ("classes_among_nouns", "shared_images")
"""Additional fields for runs: the overlap of training pairs and benchmarks."""

WORD = re.compile("[a-z]+")
"""A word of a class's name.  A class counts as named in captions if one of its words is among their
nouns.
"""

SHIPPED = {
    "demo_dino.safetensors": NOTHING,
    "demo_supervised.safetensors": Seen(image_labels="classes of scenes"),
}
"""Weights file that this package ships -> supervision of the weights."""

BY_HAND = ("threshold", "prior", "prior_offset", "image_weight")
"""Keys of ``evaluation`` whose values a user may have tuned on images with masks."""

BEST = "best.ckpt"


def supervision(record: Fields) -> dict[str, str]:
    """Return what training and scoring were allowed to see, from the fields of a results file.

    A value is ``none`` if nothing of the kind was used, and ``unknown`` if the results file does
    not show it.  Only runs have the fields of ``OF_PAIRS``.
    """
    if "predictions" in record:
        notes = record["predictions"]["notes"]
        return {field: str(notes.get(field, UNKNOWN)) for field in FIELDS}
    init, config = record["image_init"], record["config"]
    external = "model" in record
    start = init["requested"] if external else config.get("start")
    tower, place = read_start(str(start))
    if start is None or tower == "text":  # the training of text towers is not considered
        seen = _of_init(config.get("image", {}), init)
    else:
        seen = _of_name(place)
    is_start = record.get("interpolation", {}).get("share") == 0
    if not external and not is_start and record.get("steps") != 0:
        data = config.get("data", {})
        parts = data.get("mixture") or [data]
        source = " and ".join(map(_source, parts))
        count = record.get("data", {}).get("samples")
        pairs = f"pairs of {source}" if count is None else f"{count:,} pairs of {source}"
        seen = seen._replace(captions=_joined(seen.captions, pairs))
    return {**seen._asdict(), "tuned_with_masks": _tuned(record), **_of_pairs(record)}


def _of_pairs(record: Fields) -> dict[str, str]:
    """Return the overlap between the training pairs of a run and its benchmarks; empty for other
    results.
    """
    data = record.get("data", {})
    if "bad_samples" not in data or record.get("steps") == 0:
        return {}  # not a run, or not trained
    nouns = set(record.get("nouns", ()))
    named = []
    scored = [entry for entry in record["benchmarks"] if "image_set" in entry]  # scored
    for entry in scored:
        classes = entry.get("names", ()) if entry.get("measure") == "segmentation" else ()
        hits = [name for name in classes if nouns.intersection(WORD.findall(name.lower()))]
        if hits:
            named.append(f"{len(hits)} of {len(classes)} of {entry['set']}")
    shared = [_shared(data, entry) for entry in scored]
    return dict(zip(OF_PAIRS, (_joined(*named), _joined(*shared)), strict=True))


def _shared(data: Fields, entry: Fields) -> str:
    """Return how many images of a benchmark are training images; unknown if they were not
    compared.
    """
    name = entry["image_set"]
    found = data.get("shared_images", {}).get(name, {})
    if not found or found["images"] != entry["images"]:
        return f"{UNKNOWN} of {name}"
    return f"{found['shared']} of {name}" if found["shared"] else NONE


def _of_init(image: Fields, init: Fields) -> Seen:
    """Return the supervision of the pretrained weights of a run's image tower."""
    if image.get("family", "vit") not in IMAGE_TOWERS.built_in or image.get("weights"):
        return NOT_STATED
    word = image.get("inits", {}).get(init["requested"], init["resolved"])
    if word == "random":
        return NOTHING
    if is_file_of_weights(word):
        return SHIPPED.get(word, NOT_STATED)
    return _of_backbone(str(image.get("backbone")), word)


def _of_backbone(backbone: str, init: str) -> Seen:
    """Return the supervision of timm's weights of a backbone, which a word or a tag names."""
    found = resolve(init, backbone=backbone)
    return NOT_STATED if found is None else _published(f"timm:{backbone}.{found.tag}")


def _of_name(name: str) -> Seen:
    """Return the supervision of the model ``kind:name``; it is unknown for files and runs."""
    kind, _, rest = name.partition(":")
    if kind != "classifier":
        return _published(name)
    backbone, _, tag = rest.partition(".")
    seen = _of_backbone(backbone, tag or "supervised")
    # The classifier's class names are those of ImageNet.
    return seen._replace(image_labels=_joined(seen.image_labels, "ImageNet-1k"))


def _published(name: str) -> Seen:
    """Return the supervision of a published model."""
    for row in json.loads(Path(__file__).with_suffix(".json").read_bytes()):
        if re.fullmatch(row["name"], name, flags=re.IGNORECASE):
            return Seen(row.get("captions", NONE), row.get("image_labels", NONE))
    return NOT_STATED


def _source(data: Fields) -> str:
    """Return the name of a source of image-text pairs and the last part of its path."""
    root = Path(without_secrets(str(data.get("root") or ""))).name
    return f"{data.get('source', UNKNOWN)} {root}".strip()


def _tuned(record: Fields) -> str:
    """Return the images with masks that were used to tune the scoring."""
    chosen = [
        f"{found['image_set']} {found['split']}, {found['images']} images"
        for entry in record["benchmarks"]
        if (found := entry.get("calibration"))
    ]
    start = read_start(record["config"].get("start") or "").place
    names = [record.get("checkpoint"), record.get("exported_checkpoint"), start]
    if any(Path(name or "").name == BEST for name in names):
        chosen.append("the checkpoint, by mIoU")
    elif start and not start.startswith((OPEN_CLIP, CLASSIFIER)):
        chosen.append(UNKNOWN)  # unknown for a run or an exported folder
    evaluation = record["config"].get("evaluation", {})
    if any(evaluation.get(key) is not None for key in BY_HAND):
        chosen.append(UNKNOWN)
    return _joined(*chosen)


def _joined(*names: str) -> str:
    """Return the distinct names as text; ``none`` without names."""
    return " and ".join(name for name in dict.fromkeys(names) if name != NONE) or NONE
