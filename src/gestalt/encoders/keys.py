"""Keys of the two towers and their projections: ``image``, ``text`` and ``projection``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gestalt.encoders.inits import PLAIN
from gestalt.support.files import read_whole
from gestalt.support.keys import (
    Complaints,
    Reader,
    key,
    path_key,
    positive,
    refuse,
    refuse_first,
    unhashed,
)
from gestalt.support.names import nearest
from gestalt.tables import AGGREGATIONS, IMAGE_TOWERS, INITS, PROJECTIONS, TEXT_TOWERS

MAX_WIDTH, MAX_DEPTH, MAX_SIDE = 2**16, 1000, 2**14
"""Largest width, number of blocks and image side in pixels that a file may ask for."""

TIMM_KEYS = {
    "patch_size": "patch_size",
    "width": "embed_dim",
    "depth": "depth",
    "heads": "num_heads",
}
"""Keys of ``image`` that change a timm ViT, and timm's names for them."""

ARCHITECTURE = ("backbone", "family", *TIMM_KEYS, "stem")
"""Keys of ``image`` that say which image tower is built."""


@dataclass
class Image:
    """The image tower and how its tokens become one vector."""

    backbone: str = key(
        "vit_base_patch16_224",
        "Architecture of the image tower.",
        kind="a timm architecture",
        pattern=PLAIN,
        form="a name of timm without a colon, which would fetch another model",
    )
    family: str = key(
        "vit",
        "A ViT or a CNN of timm, or [your own tower](contributing.md#a-tower). A `cnn` has no "
        "class token, and no patch tokens that can be dropped. Only a `vit` supports the "
        "inference methods that change its last block.",
        choices=IMAGE_TOWERS,
    )
    patch_size: int | None = positive(
        None, "Size of a ViT's patches. `null`: the architecture's.", kind="pixels"
    )
    width: int | None = positive(
        None, "Width of a ViT. `null`: the architecture's.", kind="channels", at_most=MAX_WIDTH
    )
    depth: int | None = positive(
        None, "Depth of a ViT. `null`: the architecture's.", kind="blocks", at_most=MAX_DEPTH
    )
    heads: int | None = positive(
        None,
        "Number of attention heads of a ViT, which must divide `width`. `null`: the "
        "architecture's.",
    )
    stem: Literal["patch", "conv"] = key(
        "patch",
        "First layers of a ViT: a patch embedding, or strided convolutions, which train faster "
        "from random weights.",
    )
    init: str = key(
        "dino",
        "Pretrained weights of the image tower.",
        kind=f"{', '.join(INITS)}, a timm tag of the backbone, or any word for a file of weights "
        "or for a tower of your own",
    )
    inits: dict[str, str] = key(
        {},
        "Mapping from words of `init` to the weights that they mean at this scale: another word, "
        "a file of weights that comes with this package, or a path. Empty: each word means itself.",
    )
    weights: str | None = path_key("Checkpoint that replaces the weights of `init`. `null`: none.")
    aggregation: str = key("max", "How the patch tokens become one vector.", choices=AGGREGATIONS)
    subsampling: bool = key(
        True,
        "Train at `train_size` with `keep_tokens` of the patch tokens; `false`: at `eval_size` "
        "with all of them.",
    )
    train_size: int = positive(
        448,
        "Size of the training images with `subsampling`; a multiple of `patch_size`.",
        kind="pixels",
        at_most=MAX_SIDE,
    )
    keep_tokens: float = positive(
        0.2, "Share of the patch tokens that `subsampling` keeps.", at_most=1
    )
    eval_size: int = positive(
        224,
        "Size of the images in evaluation; a multiple of `patch_size`.",
        kind="pixels",
        at_most=MAX_SIDE,
        read_by=Reader.EXTERNAL,
    )
    frozen: bool = key(False, "Do not train the image tower.")
    frozen_blocks: int = key(
        0,
        "Number of first blocks of the image tower (of a CNN: stages) that are not trained, "
        "together with its stem and embeddings. 0: train all, unless `frozen`.",
        kind="blocks",
        at_least=0,
    )
    gradient_checkpointing: bool = unhashed(
        False, "Recompute activations in the backward pass: less memory, more time."
    )

    def changes(self) -> dict[str, Any]:
        """Return the keys that change timm's ViT, with their values."""
        return {key: getattr(self, key) for key in TIMM_KEYS if getattr(self, key) is not None}


@dataclass
class Text:
    """The text tower and how its tokens become one vector."""

    family: str = key(
        "sentence",
        "A sentence-transformers model; CLIP's text transformer, with GELU or with QuickGELU; "
        "that of a `start` from SigLIP or SigLIP 2; or [your own tower](contributing.md#a-tower).",
        choices=TEXT_TOWERS,
    )
    model: str = key(
        "sentence-transformers/sentence-t5-base",
        "Model of family `sentence`; `package:NAME` is one that a pip package ships. For SigLIP: "
        "where its tokenizer comes from.",
        kind="a hub name, a path or `package:NAME`",
    )
    init: Literal["sentence", "random"] = key(
        "sentence",
        "Pretrained weights of the model, or random weights; family `open_clip` requires `random`.",
    )
    layers: int | None = key(
        None,
        "Number of first layers to keep; 0 keeps only the word embeddings. `null`: all.",
        at_least=0,
        at_most=MAX_DEPTH,
    )
    width: int | None = positive(
        None,
        "Width of family `open_clip`; `null` for family `sentence`.",
        kind="channels",
        at_most=MAX_WIDTH,
    )
    heads: int | None = positive(
        None, "Attention heads of family `open_clip`; `null` for family `sentence`."
    )
    mlp_ratio: float = positive(
        4.0, "Width of the MLPs of families other than `sentence`, divided by `width`."
    )
    vocabulary: int | None = positive(
        None, "Number of tokens in the vocabulary of SigLIP. `null`: that of the tokenizer."
    )
    max_length: int = positive(
        77, "Maximum length of a caption; longer captions are truncated.", kind="tokens"
    )
    aggregation: str = key("avg", "How the word tokens become one vector.", choices=AGGREGATIONS)
    frozen: bool = key(False, "Do not train the text tower.")


@dataclass
class Projection:
    """Maps from the widths of the towers to the shared width."""

    order: str = key(
        "before",
        "How the towers' tokens are mapped to the shared width, before or after aggregation. With "
        "`none`, `text` and `text_mlp`, images are not projected. `siglip` and `classifier` can "
        "only come from a `start`.",
        choices=PROJECTIONS,
    )
    width: int = positive(
        768,
        "Width of the shared space, and of each tower that is not projected; an aggregation that "
        "concatenates two vectors uses half of it for each.",
        kind="channels",
        at_most=MAX_WIDTH,
    )


def is_file_of_weights(used: str) -> bool:
    """Return True if a value of ``image.inits`` is a file."""
    return used.endswith((".safetensors", ".pth", ".pt", ".bin"))


def train_size(image: Image) -> int:
    """Return the side of the training images in pixels."""
    return image.train_size if image.subsampling else image.eval_size


def check_image(image: Image) -> None:
    """Check that the keys of ``image`` fit each other.  ``gestalt.encoders.inits`` checks timm's
    tags, ``gestalt.encoders.boundary`` the number of frozen blocks, and
    ``gestalt.encoders.towers`` a tower of one's own.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    own = image.family not in IMAGE_TOWERS.built_in
    # they fit timm's own architecture only
    takes_tags = own or (image.stem == "patch" and not image.changes())
    for word, used in image.inits.items():
        if is_file_of_weights(used):
            continue
        if word not in INITS:
            why = f"{word} is not an init; {nearest(word, INITS)}, or give it a file of weights"
            refuse(f"image.inits.{word}", used, why)
        if used not in INITS and not takes_tags:
            refuse(f"image.inits.{word}", used, f"not an init; {nearest(used, INITS)}")
    missing = image.inits and image.init not in image.inits and image.weights is None
    if missing and not own and (image.init in INITS or not takes_tags):
        why = f"not available at this scale; {nearest(image.init, sorted(image.inits))}"
        yours = f"image.weights=FILE or image.inits.{image.init}=FILE"
        refuse("image.init", image.init, f"{why}, or bring your own: {yours}")
    refuse_first(image, _of_image(image), "image.")


def _of_image(image: Image) -> Complaints:
    if image.family == "cnn":
        if image.keep_tokens < 1 and image.subsampling:
            why = "a cnn cannot drop tokens; choose 1.0, or a backbone with image.family=vit"
            yield "keep_tokens", why
        for key in image.changes():
            yield key, "only a vit's architecture can be changed; choose null"
    if image.family != "vit" and image.stem != "patch":
        yield "stem", "only a vit's patch embedding can be replaced; choose patch"
    if image.patch_size is not None:
        for key in ("train_size", "eval_size") if image.subsampling else ("eval_size",):
            if getattr(image, key) % image.patch_size:
                yield key, f"choose a multiple of image.patch_size={image.patch_size}"
    if image.width is not None and image.heads is not None and image.width % image.heads:
        yield "heads", f"choose a divisor of image.width={image.width}"
    if image.frozen_blocks and image.frozen:
        why = "image.frozen=true freezes the whole tower; choose 0, or image.frozen=false"
        yield "frozen_blocks", why


def check_text(text: Text) -> None:
    """Check that the keys of ``text`` fit each other; ``gestalt.encoders.towers`` checks a tower of
    one's own.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    refuse_first(text, _of_text(text), "text.")


def _of_text(text: Text) -> Complaints:
    if AGGREGATIONS.row(text.aggregation).images_only:
        yield "aggregation", "the parts of a text already include its summary token; choose max"
    if text.family not in TEXT_TOWERS.built_in:
        return
    if text.vocabulary is not None and "siglip" not in text.family:
        yield "vocabulary", "only SigLIP has its own vocabulary; choose null"
    if text.family == "sentence":
        for key in ("width", "heads", "mlp_ratio"):
            usual = getattr(Text(), key)
            if getattr(text, key) != usual:
                why = f"the model fixes it; choose {json.dumps(usual)}, or text.family=open_clip"
                yield key, why
        if is_t5(text.model) and AGGREGATIONS.row(text.aggregation).needs_class_token:
            yield (
                "aggregation",
                "needs a summary token, and T5 has none; choose avg, max or another",
            )
        return
    if not text.layers or not text.width or not text.heads:
        why = "needs text.layers, text.width and text.heads, such as 12, 512 and 8"
        yield "family", why
    elif text.width % text.heads:
        yield "heads", f"choose a divisor of text.width={text.width}"
    if text.max_length < 3:
        yield "max_length", "family open_clip needs 3 tokens; CLIP has 77"


def is_t5(model: str) -> bool:
    """Return True if a text model is a T5: by the ``config.json`` in its folder, or by its name if
    it is not a folder with one.
    """
    for path in (Path(model) / "config.json", Path(model) / "0_Transformer" / "config.json"):
        if path.is_file():
            try:
                return "t5" in str(json.loads(read_whole(path)).get("model_type", "")).lower()
            except (ValueError, AttributeError, RecursionError) as error:
                refuse("text.model", model, f"{path} is not the configuration of a model ({error})")
    return "t5" in model.lower()
