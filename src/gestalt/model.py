"""DualEncoder: an image side and a text side, each a tower, a projection and an aggregation.

B batch, K texts, D tower width, E shared width, H W pixels, h w patch grid.
"""

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.aggregation import Aggregation, build_aggregation
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.image import ImageTower
from gestalt.encoders.keys import Image
from gestalt.encoders.last_block import LastBlock, timm_block
from gestalt.encoders.positions import timm_positions
from gestalt.encoders.text import TextTower
from gestalt.encoders.towers import build_own_image_tower
from gestalt.encoders.weights import WeightsOrigin
from gestalt.projection import TokenProjection
from gestalt.support.arguments import check_type
from gestalt.tables import READINGS
from gestalt.tokens import Features, Padded, Pair, Tokens

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # Radford et al. 2021 (arXiv:2103.00020), section 2.5
MAX_LOGIT_SCALE = math.log(100)  # ibid.; kahnchana/clippy at 04bf78b clamps to [0, ln 100]


class Side(nn.Module):
    """One modality: tower, projection, aggregation.

    Args:
        tower: inputs to tokens.
        projection: a ``gestalt.projection.Projection`` to the shared width; None for none.
        aggregation: tokens to one vector.
        project_first: True to project tokens before aggregation, False to project the vector after
            it.
        beside: True if the aggregation's vector is the summary and, beside it, a pool of the parts.
    """

    def __init__(
        self,
        tower: nn.Module,
        projection: nn.Module | None,
        *,
        aggregation: Aggregation,
        project_first: bool,
        beside: bool = False,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.projection: Any = projection
        self.aggregation = aggregation
        self.project_first = project_first
        self.beside = beside

    def project(self, tokens: Tokens) -> Tokens:
        """Project every token.  Parts (B, N, D) to (B, N, E)."""
        return tokens if self.projection is None else self.projection(tokens)

    def pool(
        self, tokens: Tokens, *, normalise: bool = True, projected: Tokens | None = None
    ) -> Tensor:
        """Aggregate the tower's tokens to one vector per item, L2-normalised by default.  Returns
        (B, E).

        ``projected`` are the same tokens as ``project`` returns them, if they exist already.
        """
        if self.project_first or self.projection is None:
            vector = self.aggregation(projected or self.project(tokens))
        else:
            vector = self.projection.project(self.aggregation(tokens))
        return functional.normalize(vector, dim=-1) if normalise else vector

    def locations(self, tokens: Tokens, *, projected: Tokens | None = None) -> Tensor:
        """Return what the side makes of each part of the tower's tokens alone, not normalised.

        Returns:
            (B, N, E); (B, N, E / 2) where the aggregation puts a pool of the parts beside the
            summary and no map follows.
        """
        if self.projection is None:
            return tokens.parts
        if self.project_first:
            return self.projection.locations(tokens, projected or self.project(tokens))
        parts = tokens.parts
        if self.beside:
            assert tokens.summary is not None
            parts = torch.cat((tokens.summary.unsqueeze(1).expand_as(parts), parts), dim=-1)
        return self.projection.project(parts)

    @property
    def cuts_text(self) -> bool:
        """True if a text is compared with locations by the second half of its vector."""
        return self.beside and (self.project_first or self.projection is None)


def _side(part: Side | nn.Module, aggregation: str, *, width: int) -> Side:
    """Return a side, or that of a tower, projected to a width before aggregation."""
    if isinstance(part, Side):
        return part
    check_type("width", width, SupportsIndex, "a whole number")
    return Side(
        part,
        TokenProjection(int(part.width), width),  # type: ignore[arg-type]
        aggregation=build_aggregation(aggregation, width),
        project_first=True,
    )


class Embeddings(NamedTuple):
    """Embeddings of a batch of pairs.

    Attributes:
        image: (B, E), L2-normalised.
        text: (B, E), L2-normalised.
        parts: number of patch tokens of each image after sub-sampling.
        patches: (B, N, E) or (B, N, E / 2), the vectors of locations, not normalised, for terms of
            the loss; None if they were not asked for.
    """

    image: Tensor
    text: Tensor
    parts: int
    patches: Tensor | None = None


class DualEncoder(DenseModel):
    """Embeds images and texts in one space, where cosine compares them.

    Args:
        image, text: the two sides, or their towers, which are then joined as in the paper: a linear
            projection of every token, the maximum over patches, the mean over words.  An image
            tower may be a module of one's own (docs/contributing.md), a text tower a ``TextTower``.
        width: E, where towers are given.
        logit_scale: initial logarithm of the factor on cosines.
        logit_bias: initial bias of scaled cosines, for the sigmoid loss, whose scale is not
            clamped; None for a model without one.

    Example:
        >>> towers = model.encoder.image_tower, model.encoder.text_tower
        >>> gestalt.DualEncoder(*towers, width=64).embed_text(["a dog"]).shape
        torch.Size([1, 64])

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3; the learnable logit scale: Radford
    et al. 2021, section 2.5.
    """

    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def __init__(
        self,
        image: Side | nn.Module,
        text: Side | nn.Module,
        *,
        width: int = 768,
        logit_scale: float = INITIAL_LOGIT_SCALE,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(image, Side | ImageTower):
            keys = Image(family=type(image).__name__, init="random", subsampling=False)
            tower = image
            image = build_own_image_tower(keys, lambda _: tower)
        if not isinstance(text, Side | TextTower):
            raise ValueError(f"text: {type(text).__name__} is neither a TextTower nor a Side")
        self.image = _side(image, "max", width=width)
        self.text = _side(text, "avg", width=width)
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))
        self.register_parameter(
            "logit_bias", None if logit_bias is None else nn.Parameter(torch.tensor(logit_bias))
        )

    @property
    def cuts_text(self) -> bool:  # type: ignore[override]
        """True if texts are compared with locations by the second half of their vectors."""
        return self.image.cuts_text

    @property
    def image_tower(self) -> ImageTower:
        """The image tower."""
        return self.image.tower  # type: ignore[return-value]

    @property
    def text_tower(self) -> TextTower:
        """The text tower."""
        return self.text.tower  # type: ignore[return-value]

    @property
    def image_origin(self) -> WeightsOrigin:  # type: ignore[override]
        """Origin of the image tower's weights."""
        return self.image_tower.origin

    @property
    def text_origin(self) -> WeightsOrigin:  # type: ignore[override]
        """Origin of the text tower's weights."""
        return self.text_tower.origin

    @property
    def patch_stride(self) -> Pair:  # type: ignore[override]
        """Pixels from one patch to the next, (down, across); they must divide the sides of an
        image.
        """
        return self.image_tower.stride

    def forward(
        self,
        images: Tensor | Features,
        texts: list[str] | Padded | Tokens | None,
        *,
        keep: Tensor | None = None,
        dense: bool = False,
    ) -> Embeddings:
        """Embed pairs of images (B, 3, H, W) uint8, or their features, and texts, padded or not, or
        their tokens; without texts, these are zero.

        ``keep`` (B, K) int64 selects tokens, None keeps all; ``dense`` returns the patches as well.
        """
        tokens = self.tokens(images, keep)
        projected = self.image.project(tokens) if dense and self.image.project_first else None
        image = self.image.pool(tokens, projected=projected)
        return Embeddings(
            image,
            torch.zeros_like(image) if texts is None else self.embed_text(texts),
            parts=tokens.parts.shape[1],
            patches=self.image.locations(tokens, projected=projected) if dense else None,
        )

    def tokens(self, images: Tensor | Features, keep: Tensor | None = None) -> Tokens:
        """Encode images (B, 3, H, W) uint8, or their features; ``keep`` (B, K) int64 selects
        tokens, None keeps all.
        """
        return self.image.tower(images, keep)

    def trunk_input(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        """Return the image tower's trunk and images as it takes them, normalised."""
        tower = self.image_tower
        return (
            (tower.trunk, tower.normalise(images))
            if hasattr(tower.trunk, "forward_intermediates")
            else super().trunk_input(images)
        )

    def head(self, tokens: Tokens) -> Tensor:
        """Aggregate and project tokens, (B, E), not normalised."""
        return self.image.pool(tokens, normalise=False)

    def locations(self, tokens: Tokens) -> Tensor:
        """Return the vectors of locations, not normalised, as ``Side.locations``."""
        return self.image.locations(tokens)

    def last_block(self) -> LastBlock | None:
        """Return the parts of the image tower's last block; None for a CNN or a block of another
        kind.
        """
        return timm_block(self.image_tower.trunk)

    def check_reading(self, reading: str) -> None:
        """Check that the model supports a reading; a ValueError gives the reason if not."""
        mixes = getattr(self.image.projection, "mixes_locations", False)
        if not READINGS.row(reading).keeps_block and mixes:
            raise ValueError(
                f"reading={reading}: it changes the tower's last block, which the blocks of "
                "projection.order=blocks follow; choose reading=plain, or "
                "projection.order=blocks_trunk"
            )
        super().check_reading(reading)

    def resize_positions(self, positions: str, *, grid: Pair) -> AbstractContextManager[None]:
        """Return a context in which the tower's position embeddings are resized by another rule
        than timm's.
        """
        return timm_positions(self.image_tower.trunk, grid=grid, how=positions)

    def embed_text(self, texts: list[str] | Padded | Tokens, *, normalise: bool = True) -> Tensor:
        """Embed K texts, padded or not, or their tokens from the text tower.  Returns (K, E),
        L2-normalised by default.
        """
        return self.text.pool(
            texts if isinstance(texts, Tokens) else self.text.tower(texts), normalise=normalise
        )

    def embed_text_for_locations(
        self, texts: list[str] | Padded | Tokens, *, normalise: bool = True
    ) -> Tensor:
        """Embed K texts to be compared with locations: where the aggregation of images puts a pool
        of the parts beside the summary, by the half of their vectors that faces the parts.
        """
        if not self.image.cuts_text:
            return self.embed_text(texts, normalise=normalise)
        whole = self.embed_text(texts, normalise=False)
        half = whole[:, whole.shape[1] // 2 :]
        return functional.normalize(half, dim=-1) if normalise else half

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Clamp the scale to [1, 100], as CLIP does after each step; with a bias there is no clamp,
        as in SigLIP.
        """
        if self.logit_bias is None:
            self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
