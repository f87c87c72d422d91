"""Build the model that training starts from, by inits or by the weights of ``start``, and check
the names of both.
"""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.config.start import CLASSIFIER, OPEN_CLIP, read_start, start_of
from gestalt.config.trust import code_of
from gestalt.encoders.backbones import inspect_trunk
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.inits import check_backbone_name, check_init
from gestalt.encoders.state_dicts import load_weights
from gestalt.encoders.weights import WeightsOrigin, weights_hash
from gestalt.model import DualEncoder
from gestalt.models.building import build_towers, image_weights, set_origin, without_weights
from gestalt.models.opening import Target, open_target
from gestalt.models.zoo.open_clip import check_tag
from gestalt.models.zoo.open_clip_towers import OpenClipModel, OpenClipTimm
from gestalt.support.typed import ConfigError
from gestalt.tables import IMAGE_TOWERS

OPTIONAL = re.compile(r"\.aggregation\.|^logit_bias$")
"""Names of weights that a start may lack, or have besides."""


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
    (down, across), _ = inspect_trunk(image)
    if image.subsampling and (image.train_size % down or image.train_size % across):
        raise ConfigError(
            f"image.train_size={image.train_size}: choose a multiple of the patch, {down} x "
            f"{across} pixels, of {image.backbone!r}"
        )
    place = read_start(config.start or "").place
    if start_of(config.start, "image") is None or place.startswith(CLASSIFIER):
        check_init(image.init, backbone=image.backbone, weights=image.weights)
    if place.startswith(OPEN_CLIP) and config.resume is None:
        check_tag(place.removeprefix(OPEN_CLIP))


def build_model(config: Experiment, resumed: Path | None = None) -> DualEncoder:
    """Build both towers with the weights of inits, of ``start``, or of a run that started from it.

    Random weights, and what a start lacks of aggregations and a bias, are drawn from ``seed``.
    Beside a start of one tower, the rest has the weights of inits.

    Args:
        config: configuration of the model.
        resumed: checkpoint of a run of this configuration, which is read in place of its start.

    Raises:
        ValueError: weights are not found, or do not fit.
    """
    tower, place = read_start(config.start or "")
    target = str(resumed or place)
    if config.start is None or target.startswith(CLASSIFIER):
        return build_towers(config)
    model = build_towers(without_weights(config, tower))
    opened = open_start(config, target)
    start = opened.model
    weights = named_weights(start)
    part = f"{tower}.tower." if tower else ""
    weights = {key: value for key, value in weights.items() if key.startswith(part)}
    fresh = tuple(
        key for key in model.state_dict() if OPTIONAL.search(key) or not key.startswith(part)
    )
    taken = {key: weights[key] for key in weights if key in fresh or not OPTIONAL.search(key)}
    load_weights(model, taken, misfit=f"start={target} does not fit", without=fresh)
    place = opened.origin
    if "logit_bias" in weights.keys() - taken.keys():  # which a softmax over pairs does not see
        place += f"; its logit bias is left out, since loss.name={config.loss.name} has none"
    origin = WeightsOrigin(config.start, place, weights_hash(start))
    if resumed is not None:
        origin = getattr(start, f"{tower or 'image'}_origin")
    set_origin(model, origin, tower)
    # batch norms of a tower that is not random keep their statistics
    return model.train()


def open_start(config: Experiment, target: str) -> Target:
    """Open the model that has the weights of a start.

    Raises:
        ValueError: there is none, or it names code that the configuration does not.
    """
    # a path, so that no word of a file names code
    place = target if target.startswith(OPEN_CLIP) else os.path.join(".", target)
    return open_target(place, trusted=[*code_of(config)])


def named_weights(opened: DenseModel) -> dict[str, Tensor]:
    """Return the weights of a start by the names of a ``DualEncoder``: of a CLIP or SigLIP ViT
    those of CLIP's image tower by timm's own table of names, and the tokenizer of SigLIP.

    Raises:
        ValueError: a tokenizer that is not of the library ``tokenizers``, or pads on the left.
    """
    if not isinstance(opened, OpenClipModel):
        return opened.state_dict()
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
