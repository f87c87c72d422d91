"""Build the model of an Experiment: both towers with their weights, projections and
aggregations.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gestalt.aggregation import build_aggregation
from gestalt.config.loading import EXPERIMENTS, code_of
from gestalt.config.schema import Experiment
from gestalt.config.start import CLASSIFIER, OPEN_CLIP
from gestalt.encoders.backbones import inspect_trunk
from gestalt.encoders.checkpoints import load_weights
from gestalt.encoders.image import ImageTower, build_image_tower
from gestalt.encoders.inits import check_init
from gestalt.encoders.keys import Image, Projection, Text, is_file_of_weights
from gestalt.encoders.text import TextTower, build_text_tower
from gestalt.encoders.timm_names import check_backbone_name
from gestalt.encoders.weights import WeightsOrigin
from gestalt.measures.evaluation.prompts import prompts_folder
from gestalt.measures.evaluation.weights import weights_hash
from gestalt.model import DualEncoder, Side
from gestalt.models.zoo.classifier import load_into
from gestalt.models.zoo.open_clip import check_tag
from gestalt.models.zoo.open_clip_towers import OpenClipModel, OpenClipTimm
from gestalt.pretraining.recipes import RECIPES
from gestalt.projection import (
    LIKELIEST,
    TEMPERATURE,
    AttentionProjection,
    ClassifierProjection,
    TokenProjection,
)
from gestalt.support.keys import refuse
from gestalt.support.typed import ConfigError
from gestalt.tables import IMAGE_TOWERS, LOSSES, TEXT_TOWERS
from gestalt.training.keys import Trainer

OPTIONAL = re.compile(r"\.aggregation\.|^logit_bias$")
"""Names of weights that a start may lack, or have besides."""

SHIPPED = EXPERIMENTS / "inits"
"""Folder of the inits that this package ships, each with its provenance in JSON."""


def image_weights(config: Experiment) -> Image:
    """Return ``config.image`` with the init that it resolves to at this scale, unless its tower is
    one's own, and the local file of its weights, if any.
    """
    image = replace(config.image, inits={})
    if str(config.start).startswith(CLASSIFIER):
        tag = str(config.start).partition(".")[2]
        return replace(image, init=tag or "supervised", weights=None)
    used = config.image.inits.get(image.init, image.init)
    if image.weights is not None or image.family not in IMAGE_TOWERS.built_in:
        return image
    if not is_file_of_weights(used):
        return replace(image, init=used)
    file = SHIPPED / used
    if Path(used).name != used or not file.is_file():
        file = Path(used).expanduser()
    return replace(image, weights=str(file))


def without_weights(config: Experiment) -> Experiment:
    """Return a configuration whose towers are built with fresh weights, which others replace."""
    image = replace(config.image, init="random", inits={}, weights=None)
    return replace(config, start=None, image=image, text=replace(config.text, init="random"))


def check_names(config: Experiment) -> None:
    """Check backbone and image init against timm, before any data or weights are read; of a tower
    of one's own, that it can be imported.

    Raises:
        ValueError: the message names the key and the nearest names.
    """
    image = image_weights(config)
    if image.family not in IMAGE_TOWERS.built_in:
        IMAGE_TOWERS[image.family]
        return
    check_backbone_name(image.backbone)
    (down, across), _ = inspect_trunk(image, size=image.eval_size)
    if image.subsampling and (image.train_size % down or image.train_size % across):
        raise ConfigError(
            f"image.train_size={image.train_size}: choose a multiple of the patch, {down} x "
            f"{across} pixels, of {image.backbone!r}"
        )
    if config.start is None or config.start.startswith(CLASSIFIER):
        check_init(image.init, backbone=image.backbone, weights=image.weights)
    elif config.start.startswith(OPEN_CLIP) and config.resume is None:
        check_tag(config.start.removeprefix(OPEN_CLIP))


def check_machine(trainer: Trainer) -> None:
    """Check that this machine has the accelerator and the precision, before a run's folder is made.

    Raises:
        ValueError: names the key and what to choose.
    """
    accelerator, precision = trainer.accelerator, trainer.precision
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available["gpu"] = available["cuda"] or available["mps"]
    if not available.get(accelerator, True):
        raise ValueError(
            f"trainer.accelerator={accelerator}: torch finds none on this machine; choose auto or "
            "cpu"
        )
    stated = os.environ.get("PYTHON_CPU_COUNT", "")  # which os.cpu_count reads from Python 3.13 on
    cores = int(stated) if stated.isdecimal() else os.cpu_count() or 1
    on_cpu = accelerator == "cpu" or not available["gpu"]
    if on_cpu and "," in str(trainer.devices):
        raise ValueError(
            f"trainer.devices={trainer.devices}: torch finds no GPU of these numbers on this "
            "machine; choose a number of devices"
        )
    if on_cpu and trainer.named_devices() > cores:
        raise ValueError(
            f"trainer.devices={trainer.devices}: a rank takes a core, and this machine has "
            f"{cores}; choose at most {cores}"
        )
    if precision.startswith("16") and on_cpu:
        raise ValueError(
            f"trainer.precision={precision}: a CPU has no float16; choose bf16-mixed or 32-true"
        )


def on_cuda(trainer: Trainer) -> bool:
    """Return True if steps run on a CUDA device."""
    return trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def check_deterministic(config: Experiment) -> None:
    """Refuse deterministic training on CUDA where position embeddings are resized in every step.

    Resizing is bicubic, and torch has no deterministic CUDA kernel of its gradient (list of
    ``torch.use_deterministic_algorithms``).

    Raises:
        ConfigError: names the sizes and what to choose.
    """
    image = config.image
    resized = image.family == "vit" and image.subsampling and image.train_size != image.eval_size
    trained = not (image.frozen or image.frozen_blocks)
    if config.trainer.deterministic and resized and trained and on_cuda(config.trainer):
        refuse(
            "trainer.deterministic",
            True,
            "on CUDA the gradient of resized position embeddings is not deterministic; choose "
            f"image.train_size={image.eval_size} as image.eval_size, trainer.deterministic=false "
            "or trainer.accelerator=cpu",
        )


def build_model(config: Experiment, resumed: Path | None = None) -> DualEncoder:
    """Build both towers with their weights; random weights are drawn from ``seed``.

    Args:
        config: configuration of the model.
        resumed: checkpoint of a run of this configuration, which is read in place of its start.

    Raises:
        ValueError: weights are not found, or do not fit.
    """
    if config.start is not None:
        target = str(resumed or config.start)
        build = _from_classifier if target.startswith(CLASSIFIER) else _from_start
        model, origin = build(config, target)
        model.image_tower.origin = model.text_tower.origin = origin
        return model
    torch.manual_seed(config.seed)
    image = image_weights(config)
    try:
        tower = build_image_tower(image, size=image.eval_size)
    except ValueError as error:
        if None in (image.weights, RECIPES.get(image.init)) or config.image.weights is not None:
            raise
        raise ConfigError(
            f"{error}; make weights of this architecture with `gestalt pretrain --init "
            f"{image.init} --scale {config.scale} KEYS --to FILE`, and set image.weights=FILE"
        ) from error
    # records name no folder of an installation
    if image.weights is not None and Path(image.weights).parent == SHIPPED:
        tower.origin = replace(tower.origin, source=f"shipped, {Path(image.weights).name}")
    return _join(
        config,
        tower,
        build_text_tower(config.text),
        LOSSES.fact(config.loss.name, "scalars", {}),
    )


def _from_start(config: Experiment, target: str) -> tuple[DualEncoder, WeightsOrigin]:
    """Build a model with the weights of ``start``, or of a run that started from them; what these
    lack of aggregations and a bias is fresh.  Returns the origin of the weights as well.
    """
    from gestalt.models.opening import open_target

    # a path, so that no word of a file names code
    place = target if target.startswith(OPEN_CLIP) else os.path.join(".", target)
    model = build_model(without_weights(config))
    opened = open_target(place, overrides=code_of(config))
    start = opened.model
    weights = named_weights(start) if isinstance(start, OpenClipModel) else start.state_dict()
    fresh = tuple(filter(OPTIONAL.search, model.state_dict()))
    taken = {key: weights[key] for key in weights if key in fresh or not OPTIONAL.search(key)}
    load_weights(model, taken, misfit=f"start={target} does not fit", without=fresh)
    place = opened.origin
    if "logit_bias" in weights.keys() - taken.keys():  # which a softmax over pairs does not see
        place += f"; its logit bias is left out, since loss.name={config.loss.name} has none"
    origin = (
        WeightsOrigin(target, place, weights_hash(start))
        if target == config.start
        else start.image_origin
    )
    # batch norms of a tower that is not random keep their statistics
    return model.train(), origin


def _from_classifier(config: Experiment, target: str) -> tuple[DualEncoder, WeightsOrigin]:
    """Build a model whose image projection reads the classifier ``classifier:ARCHITECTURE.TAG`` by
    its class names; without a tag it is that of ``image.init=supervised``.  Returns the origin of
    the weights as well.
    """
    image = image_weights(config)
    model = build_model(replace(config, start=None, image=image))
    load_into(model, image.backbone, cache=prompts_folder(config.evaluation.prompt_cache))
    sources = f"{model.image_origin.source}; {model.text_origin.source}"
    source = f"{sources}; ConSE, {LIKELIEST} likeliest, temperature {TEMPERATURE}"
    return model, WeightsOrigin(target, source, weights_hash(model))


def named_weights(opened: OpenClipModel) -> dict[str, Tensor]:
    """Return the weights of a CLIP or SigLIP ViT by the names of a ``DualEncoder``, those of CLIP's
    image tower by timm's own table of names, and the tokenizer of SigLIP.

    Raises:
        ValueError: a tokenizer that is not of the library ``tokenizers``, or pads on the left.
    """
    from timm.models.vision_transformer import _convert_openai_clip

    weights = opened.model.state_dict()
    buffers = {"image.tower.mean": opened.mean, "image.tower.std": opened.std}
    if isinstance(opened, OpenClipTimm):
        tokenizer = opened.tokenizer.tokenizer
        if not tokenizer.is_fast or tokenizer.padding_side != "right":
            raise ValueError(
                f"start: {opened.image_origin.source} needs a fast tokenizer of transformers that "
                "pads on the right; save it with tokenizer.json and padding_side=right"
            )
        opened.tokenizer("")  # sets the padding
        file = bytearray(tokenizer.backend_tokenizer.to_str(), "utf-8")
        buffers["text.tower._extra_state"] = torch.frombuffer(file, dtype=torch.uint8)
        return buffers | {
            name.replace("visual.trunk.attn_pool", "image.projection.0")
            .replace("visual", "image.tower")
            .replace("text.", "text.tower.model.", 1)
            .replace("text.tower.model.text_projection", "text.projection.linear"): value
            for name, value in weights.items()
        }
    image = _convert_openai_clip(weights, opened.model)
    del image["head.bias"]
    return {
        **buffers,
        "logit_scale": weights["logit_scale"],
        "image.projection.linear.weight": image.pop("head.weight"),
        "text.projection.linear.weight": weights["text_projection"].T,
        **{f"image.tower.trunk.{key}": value for key, value in image.items()},
        **{
            f"text.tower.model.{key}": value
            for key, value in weights.items()
            if not key.startswith(("visual.", "logit_scale", "text_projection"))
        },
    }


def _join(
    config: Experiment,
    image_tower: ImageTower,
    text_tower: TextTower,
    scalars: dict[str, Any],
) -> DualEncoder:
    """Join towers in a model with initial scalars; projections and aggregations have fresh
    weights.
    """
    return DualEncoder(
        _build_side(image_tower, config.projection, config.image.aggregation),
        _build_side(text_tower, config.projection, config.text.aggregation),
        **scalars,
    )


def _build_side(tower: ImageTower | TextTower, projection: Projection, aggregation: str) -> Side:
    order, width, shared = projection.order, tower.width, projection.width
    linear: Any = None
    if order == "siglip" and isinstance(tower, ImageTower):
        linear = AttentionProjection(tower.trunk.pooling[0])
    elif order == "classifier" and isinstance(tower, ImageTower):
        linear = ClassifierProjection(width, shared)
    elif order in ("before", "after", "siglip"):
        linear = TokenProjection(width, shared, bias=order == "siglip")
    elif width != shared:
        mend = "choose before or after" if order == "none" else f"set projection.width={width}"
        raise ConfigError(
            f"projection.order={order}: a tower is {width} wide and projection.width is {shared}; "
            f"{mend}"
        )
    return Side(
        tower,
        linear,
        aggregation=build_aggregation(aggregation, width if order == "after" else shared),
        project_first=order != "after",
    )


class _WithoutDraws(TorchFunctionMode):
    """Leaves memory as it is where a parameter's initial values would be drawn; buffers that are
    computed are computed.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, unless it initialises in place."""
        keywords = kwargs or {}
        if (
            func in (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_)
            or getattr(func, "__module__", "") == "torch.nn.init"
        ):
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


def load_model(
    config: Experiment,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    misfit: str,
    text: Text | None = None,
) -> DualEncoder:
    """Build the model of a configuration with given weights: initialisers do not draw, and no other
    weights are read.

    Args:
        config: configuration of the model.
        weights: all of its parameters and buffers, by name.
        source: where the weights are from, for records.
        misfit: beginning of the message if the weights are not those of the model.
        text: configuration that the text tower is built from, if not ``config.text``.

    Raises:
        ValueError: the weights do not fit.
    """
    random = without_weights(config).image
    # the package of its loss may be gone
    scalars = {"logit_bias": 0.0} if "logit_bias" in weights else {}
    with _WithoutDraws():
        image_tower = build_image_tower(random, size=config.image.eval_size)
        text_tower = build_text_tower(text or config.text, weights=False)
        model = _join(config, image_tower, text_tower, scalars)
    load_weights(model, weights, misfit=misfit)
    init = config.start or image_weights(config).init
    image_tower.origin = replace(image_tower.origin, init=init, source=source)
    if config.text.family not in TEXT_TOWERS.built_in:
        text_tower.origin = WeightsOrigin(config.start or config.text.init, source)
    return model.eval()
