"""open_clip's models by kind of image tower.  B batch, N locations, D width, E shared width, h w
grid of locations, H W pixels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gestalt.encoders.backbones import is_vit, token_stride
from gestalt.encoders.dense_model import maps_of, tokens_of
from gestalt.encoders.last_block import LastBlock, open_clip_block
from gestalt.encoders.positions import interpolate_positions
from gestalt.encoders.weights import WeightsOrigin
from gestalt.models.zoo.adapter import Adapter
from gestalt.models.zoo.timm import TimmTower
from gestalt.tokens import Pair, Tokens


class OpenClipModel(Adapter):
    """An open_clip model: text by its ``encode_text`` and tokenizer; a subclass reads one kind of
    image tower.

    Args:
        model: open_clip's, with weights and ``visual.image_mean`` and such, as ``create_model``
            makes it.
        tokenizer: texts to token ids (K, length).
        stride: stride of the image tower.
        source: library, version and name, for messages and records.
    """

    def __init__(self, model: Any, *, tokenizer: Any, stride: Pair, source: str) -> None:
        visual, step = model.visual, math.lcm(*stride)
        size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
        super().__init__(
            model,
            stride=stride,
            # patches of 14 pixels leave the last 6 of 384 out
            size=max(1, int(size) // step) * step,
            mean=visual.image_mean,
            std=visual.image_std,
            origin=WeightsOrigin("open_clip", source),
            logit_scale=model.logit_scale,
        )
        self.tokenizer = tokenizer
        self._positions = "timm"

    @property
    def visual(self) -> Any:
        """open_clip's image tower."""
        return self.model.visual

    @contextmanager
    def resize_positions(self, positions: str, *, grid: Pair) -> Iterator[None]:
        """Within the context, position embeddings are resized by another rule than timm's."""
        before, self._positions = self._positions, positions
        try:
            yield
        finally:
            self._positions = before

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts, (K, E), not normalised."""
        return self.model.encode_text(self.tokenizer(texts).to(self.mean.device), normalize=False)


class OpenClipViT(OpenClipModel):
    """A model with open_clip's own ViT: class token, average or attentional pooling; position
    embeddings are resized to the grid.
    """

    @property
    def _normed_first(self) -> bool:
        """True if the last norm precedes pooling."""
        return self.visual.attn_pool is None and not self.visual.final_ln_after_pool

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W), up to the last norm where it precedes pooling."""
        visual, grid = self.visual, self.grid(*pixels.shape[-2:])
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        positions = interpolate_positions(
            visual.positional_embedding,
            prefix=1,
            old=tuple(visual.grid_size),
            new=grid,
            how=self._positions,
        )
        first = visual.class_embedding.expand(patches.shape[0], 1, -1)
        tokens = torch.cat([first, patches], dim=1) + positions
        encoded = visual.transformer(visual.ln_pre(tokens))
        if self._normed_first:
            encoded = visual.ln_post(encoded)
        return tokens_of(encoded[:, 1:], grid, summary=encoded[:, 0])

    def head(self, tokens: Tokens) -> Tensor:
        """Pool and project as open_clip does: (B, E)."""
        assert tokens.summary is not None
        whole = torch.cat([tokens.summary.unsqueeze(1), tokens.parts], dim=1)
        pool = self.visual._global_pool if self._normed_first else self.visual._pool
        return self._project(pool(whole)[0])

    def locations(self, tokens: Tokens) -> Tensor:
        """Apply the head to each location alone: (B, N, E).  Attentional pooling of one token is
        its value for any query.
        """
        pool = self.visual.attn_pool
        if pool is None:
            return super().locations(tokens)
        batch, count = tokens.parts.shape[:2]
        alone = pool.ln_k(tokens.parts.flatten(0, 1)).unsqueeze(1)
        values = pool.attn(
            pool.ln_q(pool.query[:1]).expand(alone.shape[0], 1, -1),
            alone,
            alone,
            need_weights=False,
        )[0]
        return self._project(self.visual.ln_post(values[:, 0])).reshape(batch, count, -1)

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def last_block(self) -> LastBlock | None:
        """Return the parts of the last block; None for open_clip's custom blocks."""
        return open_clip_block(self.visual.transformer.resblocks[-1])


class OpenClipResNet(OpenClipModel):
    """A model with OpenAI's modified ResNet: attention pooling with position embeddings.  A
    location alone is its value path.

    Source: chongzhou96/MaskCLIP at 245d31f, MaskClipHead.
    """

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W) to the map before pooling."""
        visual = self.visual
        maps = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            maps = layer(maps)
        return tokens_of(maps)

    def head(self, tokens: Tokens) -> Tensor:
        """Pool as open_clip does, with position embeddings resized to the grid: (B, E)."""
        assert tokens.grid is not None
        pool = self.visual.attnpool
        positions = pool.positional_embedding
        side = int((positions.shape[0] - 1) ** 0.5)
        resized = interpolate_positions(
            positions, prefix=1, old=(side, side), new=tokens.grid, how=self._positions
        )
        return torch.func.functional_call(
            pool, {"positional_embedding": resized}, (maps_of(tokens),)
        )

    def locations(self, tokens: Tokens) -> Tensor:
        """Apply the value path of the pooling to each location: (B, N, E)."""
        pool = self.visual.attnpool
        return pool.c_proj(pool.v_proj(tokens.parts))


class OpenClipTimm(TimmTower, OpenClipModel):
    """A model whose image tower is timm's, for images of any size."""

    def __init__(self, model: Any, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        if is_vit(self.trunk):
            from timm.layers.format import Format

            self.form = "NLC"
            # one that was built for one size takes any, as with timm's dynamic_img_size=True
            self.trunk.dynamic_img_size = True
            embed = self.trunk.patch_embed
            embed.strict_img_size, embed.flatten, embed.output_fmt = False, False, Format("NHWC")

    @property
    def trunk(self) -> Any:
        """The timm model."""
        return self.visual.trunk

    def head(self, tokens: Tokens) -> Tensor:
        """Pool and project as open_clip does: (B, E)."""
        return self.visual.head(self.trunk.forward_head(self.features_of(tokens)))


def tower_of(visual: Any) -> tuple[type[OpenClipModel], Pair]:
    """Return the class that reads an image tower, which may be on the meta device, and its stride.

    Raises:
        ValueError: a tower that cannot be read exactly, with the reason.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        if visual.pool_type == "none":
            raise ValueError(
                "its image tower does not pool to one vector (pool_type none, or two attentional "
                "pools)"
            )
        return OpenClipViT, tuple(visual.patch_size)
    if isinstance(visual, ModifiedResNet):
        return OpenClipResNet, (32, 32)
    if hasattr(visual.head, "pool"):
        raise ValueError(
            "its image tower has an attention pool of timm_pool abs_attn or rot_attn, which is "
            "made for one size"
        )
    return OpenClipTimm, token_stride(
        visual.trunk, subject=f"its image tower, timm's {type(visual.trunk).__name__!r}"
    )
