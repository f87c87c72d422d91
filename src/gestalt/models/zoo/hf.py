"""transformers' contrastive models, named ``hf:FOLDER`` or ``hf:ORG/NAME``; code of a model's own
is never run.
"""

from pathlib import Path
from typing import Any

import torch

from gestalt.encoders.checkpoints import check_weights
from gestalt.encoders.text_sentence import check_vocabulary
from gestalt.encoders.weights import WeightsOrigin
from gestalt.models.zoo.adapter import describe_library, errors_in_one_line, whole_side
from gestalt.models.zoo.hf_families import FAMILIES, HfModel
from gestalt.models.zoo.hub_config import read_config
from gestalt.support.names import nearest


def open_model(name: str) -> HfModel:
    """Load a model with its tokenizer and the normalisation of its image processor.

    Args:
        name: a folder, as ``save_pretrained`` writes it, or ORG/NAME on the hub.

    Raises:
        ValueError: its configuration alone tells that it cannot be scored; or weights, tokenizer or
            image processor are missing.
    """
    import transformers

    if Path(name).is_dir():
        check_weights(Path(name))
    kind, adapter = _examined(name)
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
    stride = adapter.stride_of(vision)
    # ALIGN's 289 pixels become 288
    side = getattr(vision, "image_size", None) or int(vision.num_patches**0.5) * stride[0]
    mean, std = normalisation(processor)
    length = min(
        model.config.text_config.max_position_embeddings - adapter.offset,
        tokenizer.model_max_length,
    )
    return adapter(
        model,
        tokenizer=tokenizer,
        max_length=length,
        stride=stride,
        size=whole_side(int(side), stride),
        mean=mean,
        std=std,
        origin=WeightsOrigin("hf", f"transformers {transformers.__version__}, {name}"),
    )


def describe(name: str) -> dict[str, Any]:
    """Return library, version and architecture of a model, for the record."""
    return describe_library("transformers", read_config(name, target=f"hf:{name}"))


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


def _examined(name: str) -> tuple[str, type[HfModel]]:
    """Return the class of a model in transformers, and the class that reads it.

    Raises:
        ValueError: it cannot be scored, with the reason.
    """
    config = read_config(name, target=f"hf:{name}")
    kind = config["model_type"]
    if kind not in FAMILIES:
        raise ValueError(
            f"hf:{name}: models of type {kind} are not supported; {nearest(kind, list(FAMILIES))}"
        )
    adapters = FAMILIES[kind]
    named = (config.get("architectures") or [next(iter(adapters))])[0]
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
