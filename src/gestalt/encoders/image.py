"""Image tower: uint8 pixels to ``Tokens``.  B batch, N patches, K kept patches, D width, h w patch grid, H W pixels."""

from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.attention import attention_of, last_attention
from gestalt.encoders.backbones import (
    UNCHANGED,
    Architecture,
    TokenDropping,
    build_trunk,
    check_backbone,
    checkpoint_gradients,
    token_stride,
    trim,
    unused_parameters,
)
from gestalt.encoders.checkpoints import load_checkpoint
from gestalt.encoders.inits import HALF, Channels, check_init
from gestalt.encoders.last_block import LastBlock, timm_block
from gestalt.encoders.weights import WeightsOrigin, locate
from gestalt.support.files import file_hash
from gestalt.tokens import Tokens

BatchNorm = nn.modules.batchnorm._BatchNorm


class ImageTower(nn.Module):
    """A timm trunk that normalises pixels and returns tokens.

    Mean and standard deviation are buffers: a checkpoint carries the normalisation that it was trained with.

    Args:
        trunk: a trimmed timm model (``trim``).
        stride: pixels from one token to the next, (down, across).
        mean, std: normalisation, for pixels in [0, 1].
        origin: of the weights.
        frozen: no parameter is trained, and the trunk stays in eval mode.

    Attributes:
        width: D.
        is_vit: True for a ViT, False for a CNN.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: Any, *, stride: tuple[int, int], mean: Channels, std: Channels, origin: WeightsOrigin, frozen: bool = False
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk  # timm's attributes are not typed
        self.width = int(trunk.num_features)
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
        """Set the mode; a frozen trunk stays in eval mode, and a pretrained trunk's batch norms keep their statistics."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        elif self.origin.init != "random":
            for module in self.trunk.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
        return self

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the patch grid (h, w) of an image of (H, W) pixels.

        Raises:
            ValueError: a side that is not a multiple of the stride.
        """
        if height <= 0 or width <= 0 or height % self.stride[0] or width % self.stride[1]:
            raise ValueError(f"an image of {height} x {width} pixels does not divide into patches of {self.stride[0]} x {self.stride[1]}")
        return height // self.stride[0], width // self.stride[1]

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tokens:
        """Encode images.

        Args:
            images: (B, 3, H, W) uint8.
            keep: (B, K) int64 in [0, N), row-major indices of the patches to keep; class and register tokens are always kept.

        Returns:
            Parts (B, N, D) after the trunk's final norm, row-major; with ``keep``, (B, K, D) in its order, and grid None.
            The summary is the class token, None for a trunk without one.

        Raises:
            ValueError: images that are not uint8; a size that does not divide into patches; ``keep`` for a CNN.
        """
        if keep is not None and not self.is_vit:
            raise ValueError("a CNN cannot drop patches: image.keep_tokens must be 1.0 with image.family cnn")
        grid = self.grid(images.shape[-2], images.shape[-1])
        pixels = self.normalised(images)
        summary, parts = self._vit(pixels, keep) if self.is_vit else (None, self.trunk.forward_features(pixels).flatten(2).transpose(1, 2))
        mask = torch.ones(parts.shape[:2], dtype=torch.bool, device=parts.device)
        return Tokens(summary=summary, parts=parts, mask=mask, grid=grid if keep is None else None)

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) uint8 as the trunk was trained; a ValueError refuses other types."""
        if images.dtype != torch.uint8:
            raise ValueError(f"the image tower normalises pixels itself: expected uint8 in [0, 255], got {images.dtype}")
        # batches may be ordered by pixel: the trunk's sums should not depend on it
        return images.to(self.mean.dtype, memory_format=torch.contiguous_format).div_(255).sub_(self.mean).div_(self.std)

    def check_class_attention(self) -> None:
        """Check that the tower has a class token whose attention can be read.

        Raises:
            ValueError: a CNN, a ViT without a class token, or one whose attention matrix is not accessible.
        """
        if not self.is_vit or self.trunk.cls_token is None:
            kind = "a ViT without a class token" if self.is_vit else "a CNN"
            raise ValueError(f"attention grouping needs a class token, and the image tower is {kind}; choose another grouping method")
        attention_of(self.trunk.blocks[-1])

    def class_attention(self, images: Tensor) -> Tensor:
        """Return the class token's attention to each patch of images (B, 3, H, W) uint8 in the last block; call in eval mode.

        Returns:
            (B, heads, h, w), non-negative; a head sums to 1 together with the class token's attention to itself and to registers.

        Raises:
            ValueError: see ``check_class_attention`` and ``forward``.
        """
        self.check_class_attention()
        grid = self.grid(images.shape[-2], images.shape[-1])
        matrix = last_attention(self.trunk, lambda: self(images))
        return matrix[:, :, 0, self.trunk.num_prefix_tokens :].reshape(*matrix.shape[:2], *grid)

    def last_block(self) -> LastBlock | None:
        """Return the parts of a ViT's last block, which dense readings recombine; None for a CNN or a block of another kind."""
        return timm_block(self.trunk.blocks[-1], prefix=self.trunk.num_prefix_tokens) if self.is_vit else None

    def _vit(self, pixels: Tensor, keep: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """Run a ViT.  Normalised pixels (B, 3, H, W) to a class token (B, D) or None, and patch tokens (B, K, D)."""
        self.trunk.patch_drop.keep = keep
        try:
            tokens = self.trunk.forward_features(pixels)  # (B, prefix + N, D)
        finally:
            self.trunk.patch_drop.keep = None  # gradient checkpointing recomputes only the blocks, which do not read it
        return (tokens[:, 0] if self.trunk.cls_token is not None else None), tokens[:, self.trunk.num_prefix_tokens :]


def build_image_tower(
    backbone: str,
    *,
    family: str,
    init: str,
    weights: str | None,
    size: int,
    architecture: Architecture = UNCHANGED,
    frozen: bool = False,
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
    if gradient_checkpointing:
        checkpoint_gradients(trunk, backbone=backbone)
    return ImageTower(trunk, stride=stride, mean=mean, std=std, origin=origin, frozen=frozen)


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
