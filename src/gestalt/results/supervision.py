"""Supervision: what training and scoring were allowed to see, derived from the other fields of a
results file.  Results files of earlier versions therefore have it too.
"""

import re
from pathlib import Path
from typing import NamedTuple

from gestalt.support.addresses import without_secrets
from gestalt.support.files import Fields
from gestalt.tables import IMAGE_TOWERS, INITS


class Seen(NamedTuple):
    """What published weights were trained with.

    Attributes:
        captions: sources of image-text pairs.
        image_labels: labels of whole images.
        masks: saliency maps or masks.
    """

    captions: str
    image_labels: str
    masks: str


NONE, UNKNOWN = "none", "unknown"
NOTHING, NOT_STATED = Seen(*[NONE] * 3), Seen(*[UNKNOWN] * 3)

SEEN = {
    "random": NOTHING,
    # the results file of an evaluation does not say which of its tags was used
    "supervised": Seen(NONE, "ImageNet", NONE),
    "demo_dino.safetensors": NOTHING,
    "demo_supervised.safetensors": Seen(NONE, "classes of scenes", NONE),
}
"""Values of ``image.init`` and ``image.inits`` that are not tags of published weights."""

CAPTIONS = {
    "openai": "OpenAI's pairs",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laion5b": "LAION-5B",
    "laiona": "LAION-Aesthetic",
    "laion_aesthetic": "LAION-Aesthetic",
    "datacomp": "DataComp",
    "commonpool": "CommonPool",
    "dfn": "DFN",
    "webli": "WebLI",
    "siglip": "WebLI",
    "metaclip": "MetaCLIP",
    "mscoco": "COCO",
    "yfcc15m": "YFCC15M",
    "cc12m": "CC12M",
}
"""Part of the name of published weights -> the captions that they were trained with."""

IMAGENET = re.compile(r"(?<![a-z\d])in(1k|12k|21k|22k)(?![a-z\d])")
SELF_SUPERVISED = re.compile(r"dino|mae|ijepa|^lvd|^sat493m|^seer")
"""Parts of timm's tags.  Labels of such weights are those of the fine-tuning, after ``_ft_``."""

NOT_TOLD = re.compile(r"mim_|m30m|^clip_ft|eupe|swag|ig1b|jft")
"""Parts of tags of weights that were trained with another model's output, or with labels that are
not published.
"""

PUBLISHED = re.compile(
    r"open_clip:[^:]+:([\w-]+)|(?:timm|classifier):\w+\.(\w+)"
    r"|(?:hf|(?:open_clip|timm):hf-hub):((?:openai|laion|google|facebook|apple|timm)/[\w.-]+)"
)
"""Names of external models that identify their weights: by a tag, or by a repository of an
organisation that trained or converted them.
"""

WORD = re.compile("[a-z]+")
"""A word of a class's name.  A class is among the nouns of captions if one of its words is."""

BY_HAND = ("threshold", "prior", "prior_offset")
"""Keys of ``evaluation`` whose value a user may have chosen on images with masks."""


def supervision(record: Fields) -> dict[str, str | int]:
    """Return what training and scoring were allowed to see, by the fields of a results file.

    A value is ``none`` for nothing of its kind, and ``unknown`` if the results file does not show
    it.  Only the results file of a run has ``pairs``, the number of training pairs,
    ``classes_among_nouns`` and ``shared_images``.
    """
    init = record.get("image_init")
    if init is None:  # label maps: their model is not opened
        return {**NOT_STATED._asdict(), "tuned_with_masks": UNKNOWN}
    config = record["config"]
    external = "model" in record
    start = init["requested"] if external else config.get("start")
    seen = _of_init(config.get("image", {}), init) if start is None else _of_name(str(start))
    of_pairs: dict[str, str | int] = {}
    if not external and record.get("steps") != 0:
        data = config.get("data", {})
        sources = [_source(part) for part in data.get("mixture") or [data]]
        seen = seen._replace(captions=_joined(seen.captions, *sources))
        if "samples" in record.get("data", {}):
            of_pairs = _of_pairs(record)
    return {**seen._asdict(), **of_pairs, "tuned_with_masks": _tuned(record)}


def _of_pairs(record: Fields) -> dict[str, str | int]:
    """Return the number of training pairs of a run, and what they share with its benchmarks."""
    nouns = set(record.get("nouns", ()))
    named = []
    for entry in record["benchmarks"]:
        classes = entry.get("names", ()) if entry.get("measure") == "segmentation" else ()
        hits = [name for name in classes if nouns.intersection(WORD.findall(name.lower()))]
        if hits:
            named.append(f"{len(hits)} of {len(classes)} of {entry['set']}")
    shared = record["data"].get("shared_images")
    counts = [f"{count} of {name}" for name, count in (shared or {}).items() if count]
    return {
        "pairs": record["data"]["samples"],
        "classes_among_nouns": _joined(*named),
        "shared_images": UNKNOWN if shared is None else _joined(*counts),
    }


def _of_init(image: Fields, init: Fields) -> Seen:
    """Return what the pretrained weights of a run's image tower were trained with."""
    word = image.get("inits", {}).get(init["requested"], init["resolved"])
    own = image.get("family", "vit") not in IMAGE_TOWERS.built_in
    if word != "random" and (own or image.get("weights") is not None):
        return NOT_STATED
    if word in SEEN:
        return SEEN[word]
    if not re.fullmatch(r"\w+", word):  # a file
        return NOT_STATED
    return _of_tag(INITS[word].tags[0] if word in INITS else word)


def _of_name(name: str) -> Seen:
    """Return what the model ``kind:name`` was trained with, which is unknown for files and runs."""
    found = PUBLISHED.fullmatch(name)
    seen = NOT_STATED if found is None else _of_tag(str(found[found.lastindex or 0]).lower())
    if name.startswith("classifier:"):  # its classes
        seen = seen._replace(image_labels=_joined(seen.image_labels, "ImageNet-1k"))
    return seen


def _of_tag(name: str) -> Seen:
    """Return what published weights were trained with, by the name of their tag or repository."""
    self_supervised = SELF_SUPERVISED.search(name)
    captions = [source for part, source in CAPTIONS.items() if part in name]
    sizes = IMAGENET.findall(name.partition("_ft_")[2] if self_supervised else name)
    if NOT_TOLD.search(name) or not (self_supervised or captions or sizes):
        return NOT_STATED
    labels = [f"ImageNet-{size}" for size in sizes]
    return NOTHING._replace(captions=_joined(*captions), image_labels=_joined(*labels))


def _source(data: Fields) -> str:
    """Return the name of a source of pairs and the last part of its path."""
    root = Path(without_secrets(str(data.get("root") or ""))).name
    return f"{data.get('source', UNKNOWN)} {root}".strip()


def _tuned(record: Fields) -> str:
    """Return the images with masks on which thresholds were chosen."""
    chosen = [
        f"{found['image_set']} {found['split']}, {found['images']} images"
        for entry in record["benchmarks"]
        if (found := entry.get("calibration"))
    ]
    evaluation = record["config"].get("evaluation", {})
    given = any(evaluation.get(key) is not None for key in BY_HAND)
    return _joined(*chosen, *[UNKNOWN] * given)


def _joined(*names: str) -> str:
    """Return the distinct names as text, or ``none`` if there are none."""
    return " and ".join(name for name in dict.fromkeys(names) if name != NONE) or NONE
