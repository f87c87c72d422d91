"""transformers' contrastive models, named ``hf:FOLDER`` or ``hf:ORG/NAME``, by family; code of a
model's own is never run.
"""

import math
from pathlib import Path
from typing import Any

import torch

from gestalt.encoders.state_dicts import check_weights
from gestalt.encoders.vocabulary import check_vocabulary
from gestalt.encoders.weights import WeightsOrigin
from gestalt.models.zoo.adapter import (
    describe_library,
    errors_in_one_line,
    read_config,
    whole_side,
)
from gestalt.models.zoo.hf_towers import (
    HfAlign,
    HfAltClip,
    HfBlip,
    HfBlipRetrieval,
    HfClip,
    HfGroupViT,
    HfModel,
    HfSiglip,
    HfSiglip2,
    HfTips,
)
from gestalt.models.zoo.kinds import Opened
from gestalt.support.keys import Keys
from gestalt.support.names import nearest

FAMILIES: dict[str, dict[str, type[HfModel]]] = {
    "clip": {"CLIPModel": HfClip},
    "metaclip_2": {"MetaClip2Model": HfClip},
    "chinese_clip": {"ChineseCLIPModel": HfClip},
    "siglip": {"SiglipModel": HfSiglip},
    "siglip2": {"Siglip2Model": HfSiglip2},
    "altclip": {"AltCLIPModel": HfAltClip},
    "align": {"AlignModel": HfAlign},
    "blip": {"BlipModel": HfBlip, "BlipForImageTextRetrieval": HfBlipRetrieval},
    "groupvit": {"GroupViTModel": HfGroupViT},
    "tipsv2": {"Tipsv2Model": HfTips},
}
"""``model_type`` of a configuration -> class of transformers -> class that reads it; the first is
meant where none is named.
"""

BESIDE_CODE = ("tipsv2",)
"""Types of models whose repositories on the hub also hold code, for older releases of transformers;
it is not run.
"""


def open_model(name: str) -> Opened:
    """Load a model with its tokenizer and the normalisation of its image processor, and describe it
    for the record.

    Args:
        name: a folder, as ``save_pretrained`` writes it, or ORG/NAME on the hub.

    Raises:
        ValueError: its configuration alone tells that it cannot be scored; or weights, tokenizer or
            image processor are missing.
    """
    import transformers

    if Path(name).is_dir():
        check_weights(Path(name))
    config = read_config(name, target=f"hf:{name}", beside_code=BESIDE_CODE)
    kind, adapter = _examined(config, name)
    images: Any = transformers.AutoImageProcessor
    with errors_in_one_line(f"hf:{name}: cannot be loaded"):
        model, loading = getattr(transformers, kind).from_pretrained(
            name, dtype=torch.float32, weights_only=True, output_loading_info=True
        )  # safetensors first; a pickle only as tensors
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        processor = images.from_pretrained(name, trust_remote_code=False)
    missing = sorted([*loading["missing_keys"], *map(str, loading["mismatched_keys"])])
    if missing:
        raise ValueError(
            f"hf:{name}: its weights lack {len(missing)} tensors of {kind}, or differ in shape, "
            f"such as {missing[0]}"
        )
    check_vocabulary(tokenizer, rows=model.config.text_config.vocab_size, name=f"hf:{name}")
    vision = model.config.vision_config
    # of ALIGN, the stem's stride times those of the stages
    step = 2 * math.prod(vision.strides) if adapter is HfAlign else vision.patch_size
    stride = (int(step), int(step))
    # ALIGN's 289 pixels become 288
    side = getattr(vision, "image_size", None) or int(vision.num_patches**0.5) * stride[0]
    mean, std = normalisation(processor)
    length = min(
        model.config.text_config.max_position_embeddings - adapter.offset,
        tokenizer.model_max_length,
    )
    opened = adapter(
        model,
        tokenizer=tokenizer,
        max_length=length,
        stride=stride,
        size=whole_side(int(side), stride),
        mean=mean,
        std=std,
        origin=WeightsOrigin("hf", f"transformers {transformers.__version__}, {name}"),
    )
    return Opened(opened, describe_library("transformers", config), opened.size)


def normalisation(processor: Any) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation for pixels in [0, 1], from what an image processor makes
    of black and of white.
    """
    from PIL import Image

    values = processor(
        images=[Image.new("RGB", (64, 64), colour) for colour in ("black", "white")],
        do_resize=False,
        do_center_crop=False,
        return_tensors="pt",
    )["pixel_values"]
    # patches are flat, colours last
    black, white = values[:, :, 0, 0] if values.ndim == 4 else values[:, 0, :3]
    std = 1 / (white - black).double()
    return (-black * std).tolist(), std.tolist()


def _examined(config: Keys, name: str) -> tuple[str, type[HfModel]]:
    """Return the class of a model in transformers, and the class that reads it, by its
    configuration.

    Raises:
        ValueError: it cannot be scored, with the reason.
    """
    kind = config["model_type"]
    if kind not in FAMILIES:
        raise ValueError(
            f"hf:{name}: models of type {kind} are not supported; {nearest(kind, list(FAMILIES))}"
        )
    adapters = FAMILIES[kind]
    named = (config.get("architectures") or [next(iter(adapters))])[0]
    named = {adapter.lower(): adapter for adapter in adapters}.get(named.lower(), named)
    if named not in adapters:
        raise ValueError(
            f"hf:{name}: a {named}, which has no image and text embeddings to compare; supported "
            f"is {' or '.join(adapters)}"
        )
    if (config.get("vision_config") or {}).get("vision_use_head") is False:
        raise ValueError(
            f"hf:{name}: its image tower has no pooling head (vision_use_head is false), so that "
            "it has no image embedding"
        )
    return named, adapters[named]
