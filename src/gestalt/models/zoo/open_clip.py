"""open_clip's models, named ``open_clip:FOLDER``, ``open_clip:hf-hub:ORG/NAME`` or
``open_clip:ARCHITECTURE:TAG``.
"""

import re
import warnings
from pathlib import Path

import torch

from gestalt.encoders.inits import DESCRIPTION, PLAIN
from gestalt.encoders.state_dicts import check_weights
from gestalt.encoders.vocabulary import check_vocabulary
from gestalt.models.zoo.adapter import (
    check_tokenizer,
    describe_library,
    errors_in_one_line,
    nested,
    read_config,
)
from gestalt.models.zoo.kinds import Opened
from gestalt.models.zoo.open_clip_towers import OpenClipModel, tower_of
from gestalt.support.files import read_json
from gestalt.support.keys import Keys
from gestalt.support.names import few


def open_model(name: str) -> Opened:
    """Load a model of open_clip, and describe it for the record.

    Args:
        name: a folder with ``open_clip_config.json`` and weights; ``hf-hub:ORG/NAME``; or an
            architecture, a colon and a tag or file of weights, such as
            ``ViT-B-16-quickgelu:openai``.

    Raises:
        ValueError: its configuration alone tells that it cannot be scored exactly, or open_clip
            cannot load it with weights.
    """
    import open_clip
    from transformers import dynamic_module_utils

    # a model that asks to run its own code is refused, without a question to the user
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    config = read_description(name)
    tower, stride = _tower(config, name)
    source, tag = _source(name)
    place = Path(tag or name)
    if place.exists():
        check_weights(place)
    named = config["text_cfg"].get("hf_tokenizer_name")  # any other is a part of open_clip
    with warnings.catch_warnings(), errors_in_one_line(f"open_clip:{name}: cannot be loaded"):
        warnings.filterwarnings("ignore", message="QuickGELU mismatch")  # checked before
        model = open_clip.create_model(
            source, pretrained=tag, require_pretrained=True, precision="fp32", pretrained_text=False
        )
        tokenizer = open_clip.get_tokenizer(source, **{"trust_remote_code": False} if named else {})
    if named:
        check_vocabulary(
            tokenizer.tokenizer,
            rows=getattr(model, "text", model).vocab_size,
            name=f"open_clip:{name}",
        )
    opened = tower(
        model,
        tokenizer=tokenizer,
        stride=stride,
        source=f"open_clip {open_clip.__version__}, {name}",
    )
    return Opened(opened, describe_library("open_clip", config), opened.size)


def _source(name: str) -> tuple[str, str | None]:
    """Return open_clip's own name of a model, and the tag of its weights; None for a folder or a
    repository, which has them.
    """
    if Path(name).is_dir():
        return f"local-dir:{name}", None
    if name.startswith("hf-hub:"):
        return name, None
    architecture, _, tag = name.partition(":")
    return architecture, tag


def read_description(name: str) -> Keys:
    """Read the configuration of a model: architecture, towers and tokenizer.

    Raises:
        ValueError: it cannot be read.
    """
    from open_clip.factory import get_model_config

    with errors_in_one_line(f"open_clip:{name}: {DESCRIPTION} cannot be read"):
        if Path(name).is_dir():
            config = read_json(Path(name, DESCRIPTION), "open_clip")
            config = config.get("model_cfg", config)
        else:
            config = get_model_config(_source(name)[0])
    if config is None or not all(
        isinstance(config.get(key), dict) for key in ("vision_cfg", "text_cfg")
    ):
        raise ValueError(f"open_clip:{name}: its {DESCRIPTION} has no vision_cfg or no text_cfg")
    return config


def _tower(config: Keys, name: str) -> tuple[type[OpenClipModel], tuple[int, int]]:
    """Return the class that reads a model and its stride, from its configuration alone.

    Raises:
        ValueError: it cannot be scored exactly, or it asks a loader to run code.
    """
    from open_clip.model import _build_vision_tower

    _refuse_code(config, name)
    check_tag(name)
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    with errors_in_one_line(f"open_clip:{name}"):
        with torch.device("meta"):
            visual = _build_vision_tower(
                config["embed_dim"], vision, config.get("quick_gelu", False)
            )
        return tower_of(visual.eval())


def _refuse_code(config: Keys, name: str) -> None:
    """Refuse a configuration that asks a loader to run code of its folder or repository, before
    anything is built from it.
    """
    for key, value in nested(config):
        if key == "trust_remote_code" and value:
            raise ValueError(
                f"open_clip:{name}: its {DESCRIPTION} sets trust_remote_code, which would run code "
                "of that model; remove the key to load it without"
            )
        if key == "timm_model_name" and not re.fullmatch(PLAIN, str(value)):
            raise ValueError(
                f"open_clip:{name}: timm_model_name={value}: files of another model; name an "
                "architecture"
            )
    text = config["text_cfg"]
    # open_clip reads it from the same folder
    if text.get("hf_tokenizer_name") and Path(name).is_dir():
        check_tokenizer(name, target=f"open_clip:{name}")
    if text.get("hf_model_name"):
        read_config(text["hf_model_name"], target=f"open_clip:{name}")


def check_tag(name: str) -> None:
    """Check that a built-in architecture is named with weights that were trained with its
    activation; other weights have no tag.

    Raises:
        ValueError: it is not; names the tags that it has.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    source, tag = _source(name)
    if tag is None:
        return
    quick = bool(read_description(name).get("quick_gelu"))
    tags = [
        f"{_trained_as(source, known, quick)}:{known}"
        for known in list_pretrained_tags_by_model(source)
    ]
    choices = f"choose {few(name, tags)}" if tags else "open_clip has none: give a file"
    if not tag:
        raise ValueError(
            f"open_clip:{name}: no weights named; give a folder, hf-hub:ORG/NAME, or {name}:TAG "
            f"({choices})"
        )
    if not get_pretrained_cfg(source, tag):
        if not Path(tag).is_file():
            raise ValueError(
                f"open_clip:{name}: {tag} is neither a tag nor a file of weights; {choices}"
            )
        return
    right = _trained_as(source, tag, quick)
    if right != source:
        raise ValueError(
            f"open_clip:{name}: these weights were trained with another activation; choose "
            f"{right}:{tag}"
        )


def _trained_as(source: str, tag: str, quick: bool) -> str:
    """Return the architecture, or its twin with CLIP's first activation or without, that published
    weights were trained as.

    An architecture without a twin, such as roberta-ViT-B-32, is the only one that its weights can
    have been trained as.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if bool(get_pretrained_cfg(source, tag).get("quick_gelu")) == quick:
        return source
    twin = source.removesuffix("-quickgelu") if quick else f"{source}-quickgelu"
    return twin if twin in open_clip.list_models() else source
