"""Build an image tower from a timm backbone: its architecture, its weights, and what of it is frozen."""

import torch

from gestalt.encoders.backbones import (
    UNCHANGED,
    Architecture,
    build_trunk,
    check_backbone,
    checkpoint_gradients,
    token_stride,
    trim,
    unused_parameters,
)
from gestalt.encoders.boundary import check_boundary
from gestalt.encoders.checkpoints import load_checkpoint
from gestalt.encoders.image import ImageTower
from gestalt.encoders.inits import HALF, check_init
from gestalt.encoders.weights import WeightsOrigin, locate
from gestalt.support.files import file_hash


def build_image_tower(
    backbone: str,
    *,
    family: str,
    init: str,
    weights: str | None,
    size: int,
    architecture: Architecture = UNCHANGED,
    frozen: bool = False,
    frozen_blocks: int = 0,
    gradient_checkpointing: bool = False,
) -> ImageTower:
    """Build a tower from a timm backbone.

    Args:
        backbone: timm's name, without a tag.
        family: "vit" or "cnn".
        init: a word or a timm tag (``gestalt.encoders.inits``).
        weights: a local checkpoint in place of the init's own file; its mean and std are in ``<file>.json``.
        size: side in pixels of the square images that position embeddings are made for; other sizes interpolate them.
        architecture: changes to a ViT; then only ``random`` or ``weights`` fits it.
        frozen: no parameter is trained, and the trunk stays in eval mode.
        frozen_blocks: freeze the stem, all embeddings and this many blocks; 0 freezes nothing.
        gradient_checkpointing: recompute activations in the backward pass. A random CNN's batch norms then see each batch twice.

    Raises:
        ValueError: the tower cannot be built; the message names the key.
    """
    check_backbone(backbone, family=family)
    check_init(init, backbone=backbone, weights=weights)
    _check_changes(architecture, backbone=backbone, family=family, init=init if weights is None else "random")
    unused, stride = _inspect(backbone, family=family, size=size, architecture=architecture)
    file = None if init == "random" else locate(init, backbone=backbone, weights=weights)
    trunk = build_trunk(backbone, family=family, size=size, architecture=architecture)
    mean, std, origin = HALF, HALF, WeightsOrigin(init, "fresh weights")
    if file is not None:
        load_checkpoint(trunk, file)
        mean, std, origin = file.mean, file.std, WeightsOrigin(init, file.source, file_hash(file.path), file.published)
    trunk = trim(trunk)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(name not in unused)
    if frozen_blocks:
        check_boundary(trunk, frozen_blocks, backbone=backbone, stride=stride)
    if gradient_checkpointing:
        checkpoint_gradients(trunk, backbone=backbone)
    return ImageTower(trunk, stride=stride, mean=mean, std=std, origin=origin, frozen=frozen, frozen_blocks=frozen_blocks)


def _check_changes(architecture: Architecture, *, backbone: str, family: str, init: str) -> None:
    """Refuse changes to a CNN, and to a ViT whose weights fit timm's architecture only."""
    changed = ", ".join(f"image.{key}={value}" for key, value in architecture.changed().items())
    if changed and family == "cnn":
        raise ValueError(f"{changed} cannot change {backbone!r}: a CNN has none of them")
    if changed and init != "random":
        raise ValueError(f"{changed} cannot change {backbone!r}: init {init!r} fits timm's architecture only; use random, or image.weights")


def _inspect(backbone: str, *, family: str, size: int, architecture: Architecture) -> tuple[set[str], tuple[int, int]]:
    """Find the parameters without a gradient, and the stride, on a copy without memory.

    Raises:
        ValueError: ``size`` is not a multiple of the stride.
    """
    with torch.device("meta"):
        trunk = trim(build_trunk(backbone, family=family, size=size, architecture=architecture))
    stride = token_stride(trunk, backbone=backbone)
    if size % stride[0] or size % stride[1]:
        raise ValueError(f"image size {size} is not a multiple of the patch, {stride[0]} x {stride[1]} pixels, of {backbone!r}")
    return unused_parameters(trunk, stride), stride
