"""Build the model of an Experiment: both towers with their weights, projections and aggregations."""

from dataclasses import replace
from pathlib import Path

import torch

from gestalt.aggregation import build_aggregation
from gestalt.config.loading import EXPERIMENTS
from gestalt.config.schema import ConfigError, Experiment, is_file_of_weights, refuse
from gestalt.encoders.backbones import Architecture, check_backbone
from gestalt.encoders.image import ImageTower
from gestalt.encoders.image_building import build_image_tower
from gestalt.encoders.inits import check_init
from gestalt.encoders.text_building import build_text_tower
from gestalt.encoders.text_sentence import check_layers
from gestalt.model import DualEncoder, Side
from gestalt.projection import Projection
from gestalt.tables import LOSSES

SHIPPED = EXPERIMENTS / "inits"
"""Folder of the inits that this package ships, each with its provenance in JSON."""


def image_weights(config: Experiment) -> tuple[str, str | None]:
    """Return the init that ``image.init`` resolves to at this scale, and the local file of its weights, if any."""
    image = config.image
    used = image.inits.get(image.init, image.init)
    if image.weights is not None:
        return image.init, image.weights
    return (image.init, str(SHIPPED / used)) if is_file_of_weights(used) else (used, None)


def check_names(config: Experiment) -> None:
    """Check backbone, image init and text layers against timm and the text model, before any data or weights are read.

    Raises:
        ValueError: the message names the key and the nearest names, or the number of layers.
    """
    check_backbone(config.image.backbone, family=config.image.family)
    init, weights = image_weights(config)
    check_init(init, backbone=config.image.backbone, weights=weights)
    if config.text.family == "sentence" and config.text.layers is not None:
        check_layers(config.text.model, layers=config.text.layers)


def check_machine(config: Experiment) -> None:
    """Check that this machine has the accelerator and the precision, before a run's folder is made.

    Raises:
        ValueError: names the key and what to choose.
    """
    accelerator = config.trainer.accelerator
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available["gpu"] = available["cuda"] or available["mps"]
    if not available.get(accelerator, True):
        raise ValueError(f"trainer.accelerator={accelerator}: torch finds none on this machine; choose auto or cpu")
    if config.trainer.precision.startswith("16") and (accelerator == "cpu" or not available["gpu"]):
        raise ValueError(f"trainer.precision={config.trainer.precision}: a CPU has no float16; choose bf16-mixed or 32-true")


def check_deterministic(config: Experiment) -> None:
    """Refuse deterministic training on CUDA where position embeddings are resized in every step.

    Resizing is bicubic, and torch has no deterministic CUDA kernel of its gradient (list of ``torch.use_deterministic_algorithms``).

    Raises:
        ConfigError: names the sizes and what to choose.
    """
    image = config.image
    on_cuda = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if not config.trainer.deterministic or not on_cuda or image.family != "vit":
        return
    trained = not (image.frozen or image.frozen_blocks)
    if image.subsampling and trained and image.train_size != image.eval_size:
        why = "on CUDA the gradient of resized position embeddings is not deterministic; choose"
        sizes = f"image.train_size={image.eval_size} as image.eval_size"
        refuse("trainer.deterministic", True, f"{why} {sizes}, trainer.deterministic=false or trainer.accelerator=cpu")


def build_model(config: Experiment) -> DualEncoder:
    """Build both towers with their weights; random weights are drawn from ``seed``."""
    torch.manual_seed(config.seed)
    image, text = config.image, config.text
    image_tower = _image_tower(config)
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
        **LOSSES.fact(config.loss.name, "scalars", {}),
    )


def _image_tower(config: Experiment) -> ImageTower:
    image = config.image
    init, weights = image_weights(config)
    try:
        tower = build_image_tower(
            image.backbone,
            family=image.family,
            init=init,
            weights=weights,
            size=image.eval_size,
            architecture=architecture(config),
            frozen=image.frozen,
            frozen_blocks=image.frozen_blocks,
            gradient_checkpointing=image.gradient_checkpointing,
        )
    except ValueError as error:
        if weights is None or image.weights is not None:
            raise
        command = f"gestalt pretrain --init {init} --scale {config.scale} KEYS --to FILE"
        raise ConfigError(f"{error}; make weights of this architecture with `{command}`, and set image.weights=FILE") from error
    if weights is not None and Path(weights).parent == SHIPPED:  # records name no folder of an installation
        tower.origin = replace(tower.origin, source=f"shipped, {Path(weights).name}")
    return tower


def _side(tower: torch.nn.Module, width: int, *, aggregation: str, config: Experiment) -> Side:
    order, shared = config.projection.order, config.projection.width
    if order == "none" and width != shared:
        raise ConfigError(f"projection.order=none: a tower is {width} wide and projection.width is {shared}; choose before or after")
    projection = None if order == "none" else Projection(width, shared)
    pooled = width if order == "after" else shared
    return Side(tower, projection, aggregation=build_aggregation(aggregation, pooled), project_first=order != "after")


def architecture(config: Experiment) -> Architecture:
    """Return the configured changes to timm's ViT."""
    image = config.image
    return Architecture(image.patch_size, image.width, image.depth, image.heads, image.stem)
