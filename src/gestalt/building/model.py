"""Experiment -> objects.  The only room that knows both the data and the model."""

from dataclasses import replace
from typing import Any

import torch

from gestalt.aggregation import build_aggregation
from gestalt.building.source import product_of
from gestalt.config.schema import ConfigError, Experiment, uses_made
from gestalt.encoders.image import build_image_tower, check_backbone
from gestalt.encoders.text import build_text_tower
from gestalt.encoders.text_sentence import check_layers
from gestalt.model import DualEncoder, Side
from gestalt.projection import Projection


def used_init(config: Experiment) -> str:
    """What ``image.init`` resolves to at this scale."""
    return config.image.inits.get(config.image.init, config.image.init) if config.image.weights is None else config.image.init


def image_weights(config: Experiment) -> tuple[str, str | None]:
    """The init of the image tower, and the file it is read from where that is a local one; what is made here is such a file.

    Raises:
        ValueError: it was not made yet.
    """
    if not uses_made(config):
        return used_init(config), config.image.weights
    product, init = product_of(config), config.image.init
    if not product.exists():
        command = f"gestalt pretrain --init {init} --scale {config.scale}"
        raise ConfigError(f"image.init={init}: {product.file} is not there; `gestalt train` makes it, and so does `{command}`")
    return init, str(product.file)


def check_names(config: Experiment) -> None:
    """Refuse a backbone that timm does not know and layers that the text model has not, before any data or weights are read.

    Raises:
        ValueError: names the key and the nearest backbones, or how many layers there are.
    """
    check_backbone(config.image.backbone, family=config.image.family)
    if config.text.family == "sentence" and config.text.layers is not None:
        check_layers(config.text.model, layers=config.text.layers)


def check_machine(config: Experiment) -> None:
    """Refuse an accelerator that this machine has not, and a precision that its own has not, before a run's folder is made.

    Raises:
        ValueError: names the key and what would be right.
    """
    asked, there = config.trainer.accelerator, {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["gpu"] = there["cuda"] or there["mps"]
    if not there.get(asked, True):
        raise ValueError(f"trainer.accelerator={asked}: torch finds none on this machine; choose auto or cpu")
    if config.trainer.precision.startswith("16") and (asked == "cpu" or not there["gpu"]):
        raise ValueError(f"trainer.precision={config.trainer.precision}: a CPU has no float16; choose bf16-mixed or 32-true")


def build_model(config: Experiment) -> DualEncoder:
    """Both towers with their weights; fresh weights are drawn from ``seed``."""
    torch.manual_seed(config.seed)
    image, text = config.image, config.text
    init, weights = image_weights(config)
    image_tower = build_image_tower(
        image.backbone,
        family=image.family,
        init=init,
        weights=weights,
        size=image.eval_size,
        **architecture(config),
        frozen=image.frozen,
        gradient_checkpointing=image.gradient_checkpointing,
    )
    if uses_made(config):
        image_tower.origin = replace(image_tower.origin, source=f"made here, {weights}")
    text_tower = build_text_tower(
        text.family,
        model=text.model,
        init=text.init,
        layers=text.layers,
        width=text.width,
        heads=text.heads,
        max_length=text.max_length,
        frozen=text.frozen,
    )
    return DualEncoder(
        _side(image_tower, image_tower.width, aggregation=image.aggregation, config=config),
        _side(text_tower, text_tower.width, aggregation=text.aggregation, config=config),
    )


def _side(tower: torch.nn.Module, width: int, *, aggregation: str, config: Experiment) -> Side:
    order, shared = config.projection.order, config.projection.width
    if order == "none" and width != shared:
        raise ConfigError(f"projection.order=none: a tower is {width} wide and projection.width is {shared}; choose before or after")
    projection = None if order == "none" else Projection(width, shared)
    pooled = width if order == "after" else shared
    return Side(tower, projection, aggregation=build_aggregation(aggregation, pooled), project_first=order != "after")


def architecture(config: Experiment) -> dict[str, Any]:
    """What of a ViT is changed, as the image tower's builder takes it."""
    image = config.image
    return {"patch_size": image.patch_size, "width": image.width, "depth": image.depth, "heads": image.heads, "stem": image.stem}
