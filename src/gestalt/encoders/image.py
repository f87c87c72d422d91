"""Image tower: uint8 pixels to ``Tokens``.  B batch, N patches, K kept patches, D width, h w patch
grid, H W pixels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.backbones import build_trunk, grid_of, inspect_trunk, is_vit, trim
from gestalt.encoders.boundary import check_boundary, names_below, run_above, run_below
from gestalt.encoders.dense_model import normalise, tokens_of
from gestalt.encoders.inits import HALF, Channels, check_init
from gestalt.encoders.keys import Image
from gestalt.encoders.state_dicts import StateDict
from gestalt.encoders.weights import WeightsOrigin, load_checkpoint, locate
from gestalt.support.files import file_hash
from gestalt.tokens import Features, Pair, Tokens


class ImageTower(nn.Module):
    """A timm trunk that normalises pixels and returns tokens.

    Mean and standard deviation are buffers: a checkpoint carries the normalisation that it was
    trained with.

    Args:
        trunk: a trimmed timm model (``trim``).
        image: its configuration: what is frozen, and whether activations are recomputed.
        name: the trunk's in messages.
        stride: pixels from one token to the next, (down, across).
        mean, std: normalisation, for pixels in [0, 1].
        origin: origin of the weights.

    Attributes:
        width: D.
        is_vit: True for a ViT, False for a CNN.
        frozen: no parameter is trained, and the trunk stays in eval mode.
        frozen_blocks: everything before the first block is frozen, and this many blocks; 0 freezes
            nothing.

    Raises:
        ValueError: the trunk cannot recompute its activations.
    """

    mean: Tensor
    std: Tensor
    WIDTH = "num_features"  # the trunk's attribute that has D

    def __init__(
        self,
        trunk: Any,
        image: Image,
        *,
        name: str,
        stride: Pair,
        mean: Channels,
        std: Channels,
        origin: WeightsOrigin,
    ) -> None:
        super().__init__()
        if image.gradient_checkpointing:
            try:
                trunk.set_grad_checkpointing(True)
            except (AssertionError, AttributeError) as cause:
                raise ValueError(
                    f"image.gradient_checkpointing: there is none for {name!r} ({cause}); choose "
                    "false"
                ) from cause
        self.trunk: Any = trunk  # timm's attributes are not typed
        self.width = int(getattr(trunk, self.WIDTH))
        self.stride = stride
        self.origin = origin
        self.frozen = image.frozen
        self.frozen_blocks = image.frozen_blocks
        self.is_vit = is_vit(trunk)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        if self.frozen:
            self.trunk.requires_grad_(False)
        if self.frozen_blocks:
            parameters = dict(trunk.named_parameters())
            for below in names_below(parameters, self.frozen_blocks):
                parameters[below].requires_grad_(False)
        self.train()

    @property
    def drops_tokens(self) -> bool:
        """True if the tower can keep some of the patch tokens alone."""
        return self.is_vit

    def train(self, mode: bool = True) -> "ImageTower":
        """Set the mode; what is frozen stays in eval mode, and a pretrained trunk's batch norms
        keep their statistics.
        """
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        elif self.origin.init != "random":
            for module in self.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if self.frozen_blocks:
            modules = {f"{name}.": module for name, module in self.trunk.named_modules() if name}
            for name in names_below(modules, self.frozen_blocks):
                # not those in it: a container of blocks stands before the first
                modules[name].training = False
        return self

    def grid(self, height: int, width: int) -> Pair:
        """Return the patch grid (h, w) of an image of (H, W) pixels.

        Raises:
            ValueError: a side that is not a multiple of the stride.
        """
        return grid_of(height, width, stride=self.stride)

    def forward(self, images: Tensor | Features, keep: Tensor | None = None) -> Tokens:
        """Encode images.

        Args:
            images: (B, 3, H, W) uint8, or the output of ``features`` for them.
            keep: (B, K) int64 in [0, N), row-major indices of the patches to keep; class and
                register tokens are always kept.

        Returns:
            Parts (B, N, D) after the trunk's final norm, row-major; with ``keep``, (B, K, D) in its
            order, and grid None. The summary is the class token, None for a trunk without one.

        Raises:
            ValueError: images that are not uint8; a size that does not divide into patches.
        """
        if isinstance(images, Features):
            grid = self.grid(images.side, images.side)
            output = self._run(images.values, keep, run=partial(self._above, grid=grid))
        else:
            grid = self.grid(*images.shape[-2:])
            output = self._run(self.normalise(images), keep, run=self.trunk.forward_features)
        if not self.is_vit:
            return tokens_of(output, grid)
        summary = None if self.trunk.cls_token is None else output[:, 0]
        registers = output[:, int(summary is not None) : self.trunk.num_prefix_tokens]
        tokens = tokens_of(
            output[:, self.trunk.num_prefix_tokens :],
            grid if keep is None else None,
            summary=summary,
        )
        return tokens._replace(registers=registers) if registers.shape[1] else tokens

    @torch.no_grad()
    def features(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the output of what is frozen for images (B, 3, S, S) uint8, as
        ``Features.values``; ``keep`` (B, K) selects patches, None keeps all.

        Raises:
            ValueError: images that are not uint8; a size that does not divide into patches.
        """
        self.grid(*images.shape[-2:])
        run = (
            self.trunk.forward_features
            if self.frozen
            else partial(run_below, self.trunk, blocks=self.frozen_blocks)
        )
        return self._run(self.normalise(images), keep, run=run)

    def frozen_weights(self) -> StateDict:
        """Return what decides ``features``, by name: the frozen parameters and buffers, mean and
        standard deviation.
        """
        state = self.trunk.state_dict()
        names = state if self.frozen else names_below(state, self.frozen_blocks)
        return {name: state[name] for name in names} | {"mean": self.mean, "std": self.std}

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) uint8 as the trunk was trained; a ValueError refuses other
        types.
        """
        # batches may be ordered by pixel or by channel: the trunk's sums should not depend on it
        return normalise(
            images, mean=self.mean, std=self.std, memory_format=self._memory_format(images)
        )

    def _run(self, x: Tensor, keep: Tensor | None, *, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the trunk or a part of it, of which a ViT keeps some patches."""
        if keep is None:
            return run(x)
        self.trunk.patch_drop.keep = keep
        try:
            return run(x)
        finally:
            # gradient checkpointing recomputes only the blocks, which do not read it
            self.trunk.patch_drop.keep = None

    def _above(self, features: Tensor, *, grid: Pair) -> Tensor:
        """Return the trunk's features from the output of what is frozen."""
        if self.frozen:
            return features
        if not self.is_vit:
            features = features.contiguous(memory_format=self._memory_format(features))
        return run_above(self.trunk, features, blocks=self.frozen_blocks, grid=grid)

    def _memory_format(self, images: Tensor) -> torch.memory_format:
        """Return the order in memory of what a trunk is given: by pixel for a CNN on a CPU, whose
        convolutions are faster then.
        """
        by_pixel = not self.is_vit and images.device.type == "cpu"
        return torch.channels_last if by_pixel else torch.contiguous_format


def build_timm_tower(image: Image) -> ImageTower:
    """Build a tower from a timm backbone.

    A random CNN's batch norms see each batch twice under ``image.gradient_checkpointing``.

    Args:
        image: its configuration; ``init`` is a word or a timm tag, ``weights`` a file in place of
            the init's own.  Position embeddings are made for square images of ``eval_size``; other
            sizes interpolate them.

    Raises:
        ValueError: the tower cannot be built; the message names the key.
    """
    check_init(image.init, backbone=image.backbone, weights=image.weights)
    changes = image.changes() | ({} if image.stem == "patch" else {"stem": image.stem})
    # a file of weights may fit any architecture
    if changes and image.init != "random" and image.weights is None:
        changed = ", ".join(f"image.{key}={value}" for key, value in changes.items())
        raise ValueError(
            f"{changed} cannot change {image.backbone!r}: init {image.init!r} fits timm's "
            "architecture only; use random, or image.weights"
        )
    stride, unused = inspect_trunk(image)
    trunk = build_trunk(image)
    mean, std, origin = HALF, HALF, WeightsOrigin(image.init, "fresh weights")
    if image.init != "random":
        file = locate(image.init, backbone=image.backbone, weights=image.weights)
        mean, std = file.mean, file.std
        origin = WeightsOrigin(image.init, file.source, file_hash(file.path), file.published)
        load_checkpoint(trunk, file)
    trunk = trim(trunk)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_(name not in unused)
    if image.frozen_blocks:
        check_boundary(trunk, image.frozen_blocks, backbone=image.backbone, stride=stride)
    return ImageTower(
        trunk, image, name=image.backbone, stride=stride, mean=mean, std=std, origin=origin
    )
