"""Image tower: uint8 pixels to ``Tokens``.  B batch, N patches, K kept patches, D width, h w patch grid, H W pixels."""

from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.attention import attention_of, last_attention
from gestalt.encoders.backbones import (
    FAMILIES,
    TokenDropping,
    check_backbone,
    checkpoint_gradients,
    create_model,
    token_stride,
    trim,
    without_gradient,
)
from gestalt.encoders.checkpoints import load_checkpoint
from gestalt.encoders.stem import replace_stem
from gestalt.encoders.weights import HALF, INITS, Channels, Found, Weights, WeightsOrigin, check_init, digest, locate
from gestalt.tokens import Tokens

__all__ = ["FAMILIES", "INITS", "ImageTower", "Weights", "WeightsOrigin", "build_image_tower", "check_backbone", "check_init"]

BatchNorm = nn.modules.batchnorm._BatchNorm


class ImageTower(nn.Module):
    """A timm trunk that normalises its own pixels and returns tokens.

    Mean and standard deviation are buffers of the state dict: a checkpoint carries the normalisation that it was trained with.

    Attributes:
        width: D.
        origin: what the weights really are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: nn.Module, *, stride: tuple[int, int], mean: Channels, std: Channels, origin: WeightsOrigin, frozen: bool = False
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk  # timm's attributes are not typed
        features: Any = trunk.num_features
        self.width = int(features)
        self.stride = stride
        self.origin = origin
        self.frozen = frozen
        self.is_vit = isinstance(getattr(trunk, "patch_drop", None), TokenDropping)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        if frozen:
            self.trunk.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ImageTower":
        """As torch's, but a frozen trunk stays in eval mode, and a pretrained trunk's batch norms keep their statistics."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        elif self.origin.init != "random":
            for module in self.trunk.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
        return self

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w) of an image of that size in pixels.

        Raises:
            ValueError: a side that is no multiple of the patch (of the stride, for a CNN).
        """
        if height <= 0 or width <= 0 or height % self.stride[0] or width % self.stride[1]:
            raise ValueError(f"an image of {height} x {width} pixels does not divide into patches of {self.stride[0]} x {self.stride[1]}")
        return height // self.stride[0], width // self.stride[1]

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tokens:
        """Encode.

        Args:
            images: (B, 3, H, W) uint8.
            keep: (B, K) int64 in [0, N), row-major patch indices to keep; the class token is not counted and always kept.

        Returns:
            Parts (B, N, D) after the trunk's final norm, row-major, or (B, K, D) in the order of ``keep`` and without a grid.
            The summary is the class token, where the trunk has one.

        Raises:
            ValueError: images that are not uint8; a size that does not divide into patches; ``keep`` for a CNN.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"the image tower normalises: it takes uint8 pixels in [0, 255], not {images.dtype}")
        if keep is not None and not self.is_vit:
            raise ValueError("a CNN cannot drop patches: image.keep_tokens must be 1.0 with image.family cnn")
        grid = self.grid(images.shape[-2], images.shape[-1])
        pixels = images.to(self.mean.dtype).div_(255).sub_(self.mean).div_(self.std)
        summary, parts = self._vit(pixels, keep) if self.is_vit else (None, self.trunk.forward_features(pixels).flatten(2).transpose(1, 2))
        mask = torch.ones(parts.shape[:2], dtype=torch.bool, device=parts.device)
        return Tokens(summary=summary, parts=parts, mask=mask, grid=grid if keep is None else None)

    def check_class_attention(self) -> None:
        """Refuse what has no attention of a class token.

        Raises:
            ValueError: a CNN, a ViT without a class token, or one whose attention cannot be seen.
        """
        if not self.is_vit or self.trunk.cls_token is None:
            what = "a ViT without a class token" if self.is_vit else "a CNN"
            raise ValueError(f"attention heads are those of a class token, and the image tower is {what}; choose another grouping method")
        attention_of(self.trunk.blocks[-1])

    def class_attention(self, images: Tensor) -> Tensor:
        """How much the class token attends to each patch in the last block, in eval mode.

        Args:
            images: (B, 3, H, W) uint8.

        Returns:
            (B, heads, h, w), at least 0; with what the class token gives itself and registers, a head's sum is 1.

        Raises:
            ValueError: as ``check_class_attention`` and ``forward``.
        """
        self.check_class_attention()
        grid = self.grid(images.shape[-2], images.shape[-1])
        matrix = last_attention(self.trunk, lambda: self(images))
        return matrix[:, :, 0, self.trunk.num_prefix_tokens :].reshape(*matrix.shape[:2], *grid)

    def _vit(self, pixels: Tensor, keep: Tensor | None) -> tuple[Tensor | None, Tensor]:
        self.trunk.patch_drop.keep = keep
        try:
            tokens = self.trunk.forward_features(pixels)  # (B, prefix + N, D)
        finally:
            self.trunk.patch_drop.keep = None  # the blocks alone are recomputed under checkpointing: nothing reads it later
        return (tokens[:, 0] if self.trunk.cls_token is not None else None), tokens[:, self.trunk.num_prefix_tokens :]


def build_image_tower(
    backbone: str,
    *,
    family: str,
    init: str,
    weights: str | None,
    size: int,
    patch_size: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    stem: str = "patch",
    frozen: bool = False,
    gradient_checkpointing: bool = False,
) -> ImageTower:
    """Build a tower from a timm backbone (its name without a weights tag), a family, "vit" or "cnn", and an init named in ``INITS``.

    Args:
        weights: a local checkpoint to take instead of the init's own file; its mean and std lie beside it in ``<file>.json``.
        size: side in pixels of the square image that position embeddings are made for; other sizes interpolate them.
        patch_size, width, depth, heads, stem: what to change in a ViT; then only ``random`` or ``weights`` can fill it.
        frozen: no parameter is trained, and the trunk stays in eval mode.
        gradient_checkpointing: recompute activations in the backward pass. A random CNN's batch norms then see each batch twice.

    Raises:
        ValueError: what cannot be built, with the key that asked for it.
    """
    check_backbone(backbone, family=family)
    check_init(init, backbone=backbone, weights=weights)
    changes = _changes(patch_size, width, depth, heads)
    fixed = f"init {init!r} was made for it as it is; use random, or image.weights" if init != "random" and weights is None else None
    refusal = "a CNN has none of them" if family == "cnn" else fixed
    options = _options(backbone, size, changes=changes, refusal=refusal, vit=family == "vit")
    if stem != "patch" and refusal is not None:
        raise ValueError(f"image.stem={stem} cannot change {backbone!r}: {refusal}")
    unused, stride = _look(backbone, options, size=size, stem=stem)
    found = None if init == "random" else locate(init, backbone=backbone, weights=weights)
    trunk, origin, mean, std = _fill(_create(backbone, options, stem=stem), init, found=found)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(name not in unused)
    if gradient_checkpointing:
        checkpoint_gradients(trunk, backbone=backbone)
    return ImageTower(trunk, stride=stride, mean=mean, std=std, origin=origin, frozen=frozen)


def untrimmed_vit(
    backbone: str,
    *,
    size: int,
    patch_size: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    stem: str = "patch",
) -> nn.Module:
    """The trunk of ``build_image_tower``, freshly drawn, before anything is taken off it: the names that a file of its weights has."""
    options = _options(backbone, size, changes=_changes(patch_size, width, depth, heads), refusal=None, vit=True)
    return _create(backbone, options, stem=stem)


def _changes(patch_size: int | None, width: int | None, depth: int | None, heads: int | None) -> dict[str, int]:
    """What is to be changed, under timm's names."""
    asked = {"patch_size": patch_size, "embed_dim": width, "depth": depth, "num_heads": heads}
    return {key: value for key, value in asked.items() if value is not None}


def _create(backbone: str, options: dict[str, Any], *, stem: str) -> nn.Module:
    return replace_stem(create_model(backbone, options), stem)


def _options(backbone: str, size: int, *, changes: dict[str, int], refusal: str | None, vit: bool) -> dict[str, Any]:
    """timm's keywords; stops when a size is to be changed and there is a reason why it cannot be."""
    if changes and refusal is not None:
        raise ValueError(f"image.patch_size, width, depth, heads: {changes} cannot change {backbone!r}: {refusal}")
    return {"img_size": size, "dynamic_img_size": True, **changes} if vit else {}


def _look(backbone: str, options: dict[str, Any], *, size: int, stem: str) -> tuple[set[str], tuple[int, int]]:
    """The names of parameters without a gradient, and the stride, seen on a twin without memory."""
    with torch.device("meta"):
        twin = trim(_create(backbone, options, stem=stem))
    stride = token_stride(twin, backbone=backbone)
    if size % stride[0] or size % stride[1]:
        raise ValueError(f"image size {size} is not a multiple of the patch, {stride[0]} x {stride[1]} pixels, of {backbone!r}")
    return without_gradient(twin, stride), stride


def _fill(trunk: nn.Module, init: str, *, found: Found | None) -> tuple[nn.Module, WeightsOrigin, Channels, Channels]:
    """The trimmed trunk with its weights; what they are; the mean and std they need."""
    if found is None:
        return trim(trunk), WeightsOrigin(init, "fresh weights", None), HALF, HALF
    load_checkpoint(trunk, found)
    return trim(trunk), WeightsOrigin(init, found.source, digest(found.path)), found.mean, found.std
