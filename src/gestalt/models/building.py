"""Build the model of an Experiment: both towers with their weights, projections and
aggregations.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gestalt.aggregation import build_aggregation, pooled_width
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.schema import Experiment
from gestalt.config.start import CLASSIFIER, TOWERS, start_of
from gestalt.encoders.image import ImageTower
from gestalt.encoders.keys import Image, Text, is_file_of_weights
from gestalt.encoders.state_dicts import load_weights
from gestalt.encoders.text import TextTower
from gestalt.encoders.towers import build_image_tower, build_text_tower
from gestalt.encoders.weights import WeightsOrigin, weights_hash
from gestalt.measures.evaluation.prompts import prompts_folder
from gestalt.model import DualEncoder, Side
from gestalt.models.classifier import load_into
from gestalt.pretraining.keys import RECIPES
from gestalt.projection import LIKELIEST, TEMPERATURE, Make
from gestalt.support.typed import ConfigError
from gestalt.tables import IMAGE_TOWERS, LOSSES, PROJECTIONS, TEXT_TOWERS

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


def without_weights(config: Experiment, tower: str = "") -> Experiment:
    """Return a configuration whose towers, or the named one alone, are built with fresh weights,
    which others replace.
    """
    image, text = config.image, config.text
    if tower != "text":
        image = replace(image, init="random", inits={}, weights=None)
    if tower != "image":
        text = replace(text, init="random")
    return replace(config, start=None, image=image, text=text)


def set_origin(model: DualEncoder, origin: WeightsOrigin, tower: str = "") -> None:
    """Set the origin of both towers' weights, or of the named one alone."""
    for name in TOWERS:
        if tower in ("", name):
            getattr(model, name).tower.origin = origin


def build_towers(config: Experiment) -> DualEncoder:
    """Build both towers with the weights of their inits; random weights are drawn from ``seed``.

    With the classifier ``start``, ``classifier:ARCHITECTURE.TAG``, the image projection reads it by
    its class names; without a tag it is that of ``image.init=supervised``.

    Raises:
        ValueError: weights are not found, or do not fit.
    """
    image = image_weights(config)
    if config.start is not None:
        model = build_towers(replace(config, start=None, image=image))
        load_into(model, image.backbone, cache=prompts_folder(config.evaluation.prompt_cache))
        sources = f"{model.image_origin.source}; {model.text_origin.source}"
        source = f"{sources}; ConSE, {LIKELIEST} likeliest, temperature {TEMPERATURE}"
        origin = WeightsOrigin(str(config.start), source, weights_hash(model))
        set_origin(model, origin)
        return model
    torch.manual_seed(config.seed)
    try:
        tower = build_image_tower(image)
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
        LOSSES.row(config.loss.name).scalars,
    )


def _join(
    config: Experiment,
    image_tower: ImageTower,
    text_tower: TextTower,
    scalars: dict[str, Any],
) -> DualEncoder:
    """Join towers in a model with initial scalars; projections and aggregations have fresh
    weights.
    """
    order, shared = config.projection.order, config.projection.width
    maps, after = PROJECTIONS[order], PROJECTIONS.row(order).after

    def side(tower: ImageTower | TextTower, make: Make | None, aggregation: str) -> Side:
        pooled = pooled_width(aggregation, tower.width)
        joined = pooled // tower.width
        projection = None
        width = tower.width  # of the tokens that are aggregated
        if make is not None and after:
            projection = make(tower, pooled, shared)
        elif make is not None and shared % joined == 0:
            width = shared // joined
            projection = make(tower, tower.width, width)
        elif make is not None or pooled != shared:
            mend = "an even number" if make is not None else f"{pooled}"
            other = "" if make is not None else ", or choose an order that projects this tower"
            raise ConfigError(
                f"projection.order={order}: a tower is {tower.width} wide, {aggregation} makes "
                f"{pooled} of it, and projection.width is {shared}; set projection.width to "
                f"{mend}{other}"
            )
        return Side(
            tower,
            projection,
            aggregation=build_aggregation(aggregation, width),
            project_first=not after,
            beside=joined > 1,
        )

    return DualEncoder(
        side(image_tower, maps.image, config.image.aggregation),
        side(text_tower, maps.text, config.text.aggregation),
        **scalars,
    )


class SkipInit(TorchFunctionMode):
    """Leaves memory as it is where a parameter's initial values would be drawn; buffers that are
    computed are computed.

    Normal values are their mean: ``trunc_normal_`` draws until all are in its range, so that with
    what the memory held before it might never end.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, unless it initialises in place."""
        keywords = kwargs or {}
        if func is Tensor.normal_:
            return args[0].fill_(args[1] if len(args) > 1 else keywords.get("mean", 0.0))
        if (
            func in (Tensor.uniform_, Tensor.erfinv_)
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
    with SkipInit():
        image_tower = build_image_tower(random)
        text_tower = build_text_tower(text or config.text, weights=False)
        model = _join(config, image_tower, text_tower, scalars)
    load_weights(model, weights, misfit=misfit)
    init = start_of(config.start, "image") or image_weights(config).init
    image_tower.origin = replace(image_tower.origin, init=init, source=source)
    if text is not None or config.text.family not in TEXT_TOWERS.built_in:
        text_tower.origin = WeightsOrigin(
            start_of(config.start, "text") or config.text.init, source
        )
    return model.eval()
