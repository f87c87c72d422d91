"""The weights of a classifier of timm that is read by its class names: its linear map, and the
vectors of ImageNet's labels.
"""

import copy
import runpy
from pathlib import Path
from typing import Any

import torch

from gestalt.data_modules.image_sets import plain_labels
from gestalt.encoders.inits import folder_of
from gestalt.encoders.state_dicts import read_state_dict, unwrap
from gestalt.encoders.weights import locate
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.protocols import PromptProtocol
from gestalt.model import DualEncoder
from gestalt.projection import CLASSES

PROMPTS = PromptProtocol(name="classifier", templates=("a photo of a {}.",), lower_case=False)


def load_into(model: DualEncoder, backbone: str, *, cache: Path | None) -> None:
    """Load the classifier of a model's image tower, and the vectors of its classes' names, into its
    ``ClassifierProjection``, in place.

    Args:
        model: a dual encoder with the weights of its towers.
        backbone: architecture of the image tower.
        cache: folder for the names' vectors; None embeds them.

    Raises:
        ValueError: other classes than those of ImageNet-1k, or features that it reads otherwise
            than by a linear map of their mean.
    """
    trunk: Any = model.image_tower.trunk
    projection: Any = model.image.projection
    file = locate(model.image_origin.init, backbone=backbone, weights=None)
    state = unwrap(read_state_dict(file.path), source=file.source)
    name = trunk.pretrained_cfg.get("classifier")
    weight, bias = (
        list(state.values())[-2:]
        if file.in_order
        else (state.get(f"{name}.weight"), state.get(f"{name}.bias"))
    )
    head = f"{str(name).partition('.')[0]}."
    more = set(state) - {f"{name}.weight", f"{name}.bias", *trunk.state_dict()}
    if (
        weight is None
        or bias is None
        or weight.shape != projection.weight.shape
        or any(key.startswith(head) for key in more)
        or not _pools_by_mean(trunk)
    ):
        raise ValueError(
            f"classifier:{backbone}: {file.source} does not fit; choose a CNN with {CLASSES} "
            "classes, ImageNet's, that are a linear map of the mean of its map, such as "
            "tf_efficientnet_lite0 or resnet50"
        )
    projection.weight.copy_(weight)
    projection.bias.copy_(bias)
    labels = plain_labels(class_names())
    projection.names.copy_(class_embeddings(model, labels, protocol=PROMPTS, cache=cache).vectors)


def _pools_by_mean(trunk: Any) -> bool:
    """Return True if a trunk's head does nothing but average its map."""
    trunk = copy.deepcopy(trunk).eval()  # without dropout
    features = torch.arange(4.0 * trunk.num_features).reshape(1, -1, 2, 2)
    return torch.allclose(trunk.forward_head(features), features.mean(dim=(2, 3)))


def class_names() -> list[str]:
    """Return open_clip's names of ImageNet's classes; importing the package would take seconds."""
    file = folder_of("open_clip") / "zero_shot_metadata.py"
    return runpy.run_path(str(file))["IMAGENET_CLASSNAMES"]
