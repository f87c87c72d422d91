"""Build the model of an Experiment: both towers with their weights, projections and aggregations."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gestalt.aggregation import build_aggregation
from gestalt.building.source import SHIPPED, init_file_of
from gestalt.config.loading import EXPERIMENTS
from gestalt.config.schema import ConfigError, Experiment, Image, Text, Trainer, refuse, uses_made
from gestalt.config.schema import Projection as ProjectionConfig
from gestalt.encoders.backbones import inspect_trunk
from gestalt.encoders.checkpoints import load_weights
from gestalt.encoders.image import ImageTower, build_image_tower
from gestalt.encoders.inits import check_init
from gestalt.encoders.text import TextTower, build_text_tower
from gestalt.encoders.timm_names import check_backbone_name
from gestalt.loss import SIGMOID_BIAS, SIGMOID_SCALE
from gestalt.model import DualEncoder, Side
from gestalt.projection import Projection


def used_init(config: Experiment) -> str:
    """Return the init that ``image.init`` resolves to at this scale; of a pretrained one, the word itself."""
    image = config.image
    return image.init if image.weights is not None or uses_made(config) else image.inits.get(image.init, image.init)


def image_weights(config: Experiment) -> Image:
    """Return ``config.image`` with the init that it resolves to, and the local file of its weights, which ``gestalt pretrain`` may make.

    Raises:
        ValueError: the file does not exist yet.
    """
    image = replace(config.image, init=used_init(config), inits={})
    if not uses_made(config):
        return image
    file = init_file_of(config)
    if not file.exists():
        shipped = (EXPERIMENTS / "scales" / f"{config.scale}.yaml").is_file()
        scale = config.scale if shipped else f"{config.scale}.yaml, with the path of your file"
        command = f"gestalt pretrain --init {image.init} --scale {scale}"
        raise ConfigError(f"image.init={image.init}: {file.path} not found; make it with `gestalt train` or `{command}`")
    return replace(image, weights=str(file.path))


def check_names(config: Experiment) -> None:
    """Check backbone and image init against timm, before any data or weights are read.

    Raises:
        ValueError: the message names the key and the nearest names.
    """
    image = config.image
    check_backbone_name(image.backbone)
    inspect_trunk(image, size=image.eval_size)
    if not uses_made(config):
        check_init(used_init(config), backbone=image.backbone, weights=image.weights)


def check_machine(trainer: Trainer) -> None:
    """Check that this machine has the accelerator and the precision, before a run's folder is made.

    Raises:
        ValueError: names the key and what to choose.
    """
    accelerator, precision = trainer.accelerator, trainer.precision
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available["gpu"] = available["cuda"] or available["mps"]
    if not available.get(accelerator, True):
        raise ValueError(f"trainer.accelerator={accelerator}: torch finds none on this machine; choose auto or cpu")
    if precision.startswith("16") and (accelerator == "cpu" or not available["gpu"]):
        raise ValueError(f"trainer.precision={precision}: a CPU has no float16; choose bf16-mixed or 32-true")


def check_deterministic(config: Experiment, *, pretrains: bool = False) -> None:
    """Refuse deterministic training on CUDA where position embeddings are resized in every step.

    Resizing is bicubic, and torch has no deterministic CUDA kernel of its gradient (list of ``torch.use_deterministic_algorithms``).

    Args:
        config: configuration of the run.
        pretrains: True to check the pretraining of the init, whose local crops differ in size from its global ones.

    Raises:
        ConfigError: names the sizes and what to choose.
    """
    image, recipe = config.image, config.pretraining
    on_cuda = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if not config.trainer.deterministic or not on_cuda or image.family != "vit":
        return
    why = "on CUDA the gradient of resized position embeddings is not deterministic; choose"
    if pretrains and image.init == "dino" and recipe.local_crops and recipe.local_size != recipe.global_size:
        refuse("trainer.deterministic", True, f"{why} pretraining.local_crops=0, trainer.deterministic=false or trainer.accelerator=cpu")
    trained = not (image.frozen or image.frozen_blocks)
    if not pretrains and image.subsampling and trained and image.train_size != image.eval_size:
        sizes = f"image.train_size={image.eval_size} as image.eval_size"
        refuse("trainer.deterministic", True, f"{why} {sizes}, trainer.deterministic=false or trainer.accelerator=cpu")


def build_model(config: Experiment) -> DualEncoder:
    """Build both towers with their weights; random weights are drawn from ``seed``."""
    torch.manual_seed(config.seed)
    image = image_weights(config)
    image_tower = build_image_tower(image, size=image.eval_size)
    if uses_made(config):
        file = Path(str(image.weights))  # records name no folder of an installation
        source = f"shipped, {file.name}" if file.parent == SHIPPED else f"made here, {file}"
        image_tower.origin = replace(image_tower.origin, source=source)
    return _joined(config, image_tower, build_text_tower(config.text))


def _joined(config: Experiment, image_tower: ImageTower, text_tower: TextTower) -> DualEncoder:
    """Join towers in a model; projections and aggregations have fresh weights."""
    scalars = {"logit_scale": SIGMOID_SCALE, "logit_bias": SIGMOID_BIAS} if config.loss.name == "sigmoid" else {}
    return DualEncoder(
        _build_side(image_tower, config.projection, aggregation=config.image.aggregation),
        _build_side(text_tower, config.projection, aggregation=config.text.aggregation),
        **scalars,
    )


def _build_side(tower: ImageTower | TextTower, projection: ProjectionConfig, *, aggregation: str) -> Side:
    order, width, shared = projection.order, tower.width, projection.width
    if order == "none" and width != shared:
        raise ConfigError(f"projection.order=none: a tower is {width} wide and projection.width is {shared}; choose before or after")
    linear = None if order == "none" else Projection(width, shared)
    pooled = width if order == "after" else shared
    return Side(tower, linear, aggregation=build_aggregation(aggregation, pooled), project_first=order != "after")


class _WithoutDraws(TorchFunctionMode):
    """Leaves memory as it is where a parameter's initial values would be drawn; buffers that are computed are computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, unless it initialises in place."""
        keywords = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


def load_model(config: Experiment, weights: Mapping[str, Tensor], *, source: str, misfit: str, text: Text | None = None) -> DualEncoder:
    """Build the model of a configuration with given weights: initialisers do not draw, and no other weights are read.

    Args:
        config: configuration of the model.
        weights: all of its parameters and buffers, by name.
        source: where the weights are from, for records.
        misfit: beginning of the message if the weights are not those of the model.
        text: configuration that the text tower is built from, if not ``config.text``.

    Raises:
        ValueError: the weights do not fit.
    """
    random = replace(config.image, init="random", inits={}, weights=None)
    with _WithoutDraws():
        image_tower = build_image_tower(random, size=config.image.eval_size)
        model = _joined(config, image_tower, build_text_tower(text or config.text, weights=False))
    load_weights(model, weights, misfit=misfit)
    image_tower.origin = replace(image_tower.origin, init=used_init(config), source=source)
    return model.eval()
