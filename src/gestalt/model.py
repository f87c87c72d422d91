"""DualEncoder: a model with an image side and a text side, each with a tower, a projection and an
aggregation.

B batch size, K texts, D tower width, E embedding width, H W pixels, h w patch grid.
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
    """One modality of a dual encoder: tower, projection and aggregation.

    Args:
        tower: module that maps inputs to tokens.
        projection: a ``gestalt.projection.Projection`` to the embedding width; None for no
            projection.
        aggregation: function that pools tokens to one vector.
        project_first: True to project tokens before aggregation, False to project the pooled
            vector.
        beside: True if the aggregation concatenates the summary and the pooled parts.
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
        """Project every token.  Maps parts (B, N, D) to (B, N, E)."""
        return tokens if self.projection is None else self.projection(tokens)

    def pool(
        self, tokens: Tokens, *, normalise: bool = True, projected: Tokens | None = None
    ) -> Tensor:
        """Aggregate the tower's tokens to one vector per item, L2-normalised by default.  Returns
        (B, E).

        ``projected`` is the output of ``project`` for the tokens, if it was already computed.
        """
        if self.project_first or self.projection is None:
            vector = self.aggregation(projected or self.project(tokens))
        else:
            vector = self.projection.project(self.aggregation(tokens))
        return functional.normalize(vector, dim=-1) if normalise else vector

    def locations(self, tokens: Tokens, *, projected: Tokens | None = None) -> Tensor:
        """Embed each part (patch or word) separately, without normalisation.

        Returns:
            (B, N, E); or (B, N, E / 2) if the aggregation concatenates the summary and the pooled
            parts and no projection follows.
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
        """True if only the second half of a text's embedding is compared with patches."""
        return self.beside and (self.project_first or self.projection is None)


def _side(part: Side | nn.Module, aggregation: str, *, width: int) -> Side:
    """Return a side, or build one from a tower, with a projection to ``width`` before
    aggregation.
    """
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
    """Embeddings of a batch of image-text pairs.

    Attributes:
        image: (B, E), L2-normalised.
        text: (B, E), L2-normalised.
        parts: number of patch tokens of each image after sub-sampling.
        patches: (B, N, E) or (B, N, E / 2), the embeddings of patches, not normalised, for
            auxiliary losses; None if they were not requested.
    """

    image: Tensor
    text: Tensor
    parts: int
    patches: Tensor | None = None


class DualEncoder(DenseModel):
    """Dual encoder: embeds images and texts in one space, in which they are compared by cosine.

    Args:
        image, text: the two sides, or two towers.  Towers are combined as in the paper: a linear
            projection of every token, the maximum over patches, the mean over words.  An image
            tower may be your own module (docs/contributing.md), a text tower is a ``TextTower``.
        width: embedding width E, if towers are given.
        logit_scale: logarithm of the initial scale of cosines.
        logit_bias: initial bias of scaled cosines, for the sigmoid loss; None for a model without a
            bias.  With a bias, the scale is not clamped.

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
        """True if only the second half of a text's embedding is compared with patches."""
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
        """The origin of the image tower's weights."""
        return self.image_tower.origin

    @property
    def text_origin(self) -> WeightsOrigin:  # type: ignore[override]
        """The origin of the text tower's weights."""
        return self.text_tower.origin

    @property
    def patch_stride(self) -> Pair:  # type: ignore[override]
        """The distance in pixels from one patch to the next, (down, across).  The sides of an image
        must be multiples of it.
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
        """Embed image-text pairs.

        Images are (B, 3, H, W) uint8, or features. Texts are strings, padded token ids, or tokens.
        Without texts, the text embeddings are zero.

        ``keep``, (B, K) int64, selects patch tokens; None keeps all. With ``dense``, the embeddings
        of patches are returned as well.
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
        """Encode images, (B, 3, H, W) uint8, or their features.  ``keep``, (B, K) int64, selects
        patch tokens; None keeps all.
        """
        return self.image.tower(images, keep)

    def trunk_input(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        """Return the image tower's trunk, and normalised images as input for it."""
        tower = self.image_tower
        return (
            (tower.trunk, tower.normalise(images))
            if hasattr(tower.trunk, "forward_intermediates")
            else super().trunk_input(images)
        )

    def head(self, tokens: Tokens) -> Tensor:
        """Aggregate and project tokens.  Returns (B, E), not normalised."""
        return self.image.pool(tokens, normalise=False)

    def locations(self, tokens: Tokens) -> Tensor:
        """Return the embeddings of patches, not normalised, see ``Side.locations``."""
        return self.image.locations(tokens)

    def last_block(self) -> LastBlock | None:
        """Return the parts of the image tower's last block; None for a CNN or an unsupported
        block.
        """
        return timm_block(self.image_tower.trunk)

    def check_reading(self, reading: str) -> None:
        """Check that the model supports a dense inference method.  If not, a ValueError gives the
        reason.
        """
        mixes = getattr(self.image.projection, "mixes_locations", False)
        if not READINGS.row(reading).keeps_block and mixes:
            raise ValueError(
                f"reading={reading}: it changes the tower's last block, which the blocks of "
                "projection.order=blocks follow; choose reading=plain, or "
                "projection.order=blocks_trunk"
            )
        super().check_reading(reading)

    def resize_positions(self, positions: str, *, grid: Pair) -> AbstractContextManager[None]:
        """Return a context in which the tower's position embeddings are resized with a rule other
        than timm's.
        """
        return timm_positions(self.image_tower.trunk, grid=grid, how=positions)

    def embed_text(self, texts: list[str] | Padded | Tokens, *, normalise: bool = True) -> Tensor:
        """Embed K texts: strings, padded token ids, or tokens from the text tower.  Returns (K, E),
        L2-normalised by default.
        """
        return self.text.pool(
            texts if isinstance(texts, Tokens) else self.text.tower(texts), normalise=normalise
        )

    def embed_text_for_locations(
        self, texts: list[str] | Padded | Tokens, *, normalise: bool = True
    ) -> Tensor:
        """Embed K texts for comparison with patches.

        If the aggregation of images concatenates the summary and the pooled parts, only the half of
        the embeddings that corresponds to the parts is returned.
        """
        if not self.image.cuts_text:
            return self.embed_text(texts, normalise=normalise)
        whole = self.embed_text(texts, normalise=False)
        half = whole[:, whole.shape[1] // 2 :]
        return functional.normalize(half, dim=-1) if normalise else half

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Clamp the logit scale to [1, 100], as CLIP does after each step.  A model with a bias is
        not clamped, as in SigLIP.
        """
        if self.logit_bias is None:
            self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
