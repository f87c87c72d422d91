"""DenseModel: the interface under which measures score a model, ours and other people's.

B batch, N locations, D tower width, E shared width, K texts, h w grid of locations, H W pixels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.backbones import grid_of
from gestalt.encoders.last_block import LastBlock
from gestalt.encoders.readings import attention, read_last_block
from gestalt.encoders.weights import WeightsOrigin
from gestalt.tables import READINGS
from gestalt.tokens import Pair, Tokens


def tokens_of(parts: Tensor, grid: Pair | None = None, *, summary: Tensor | None = None) -> Tokens:
    """Return locations (B, N, D), or a map of them (B, D, h, w), none of which is masked, as
    tokens.
    """
    if parts.ndim == 4:
        parts = parts.flatten(2).transpose(1, 2)
    return Tokens(
        summary, parts, torch.ones(parts.shape[:2], dtype=torch.bool, device=parts.device), grid
    )


def normalise(
    images: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """Normalise images (B, 3, H, W) uint8 as a model was trained; a ValueError refuses other types.

    ``mean`` and ``std`` (3, 1, 1) are for pixels in [0, 1]; ``memory_format`` is the result's.
    """
    if images.dtype != torch.uint8:
        raise ValueError(
            "the image tower normalises pixels itself: expected uint8 in [0, 255], got "
            f"{images.dtype}"
        )
    return images.to(mean.dtype, memory_format=memory_format).div_(255).sub_(mean).div_(std)


def maps_of(tokens: Tokens) -> Tensor:
    """Return the locations as a map (B, D, h, w)."""
    assert tokens.grid is not None
    return tokens.parts.transpose(1, 2).reshape(tokens.parts.shape[0], -1, *tokens.grid)


class DenseModel(nn.Module):
    """A model with one vector for each location of an image, and as a rule one for each text.

    A subclass gives tokens, head, text and, where it can, the last block; everything else is
    derived here.

    Attributes:
        image_origin, text_origin: origins of the weights; ``text_origin`` is None for a model
            without text.
        patch_stride: pixels from one location to the next, (down, across); they must divide the
            sides of an image.
        logit_scale: () learned log of the scale of cosines; None for a model without one.
        proxy: the proxy model, whose features give the attention of ``reading="proxyclip"``; set
            by ``attach_proxy``.
        proxy_name: name of the proxy model, if one is attached by name.
        cuts_text: True if texts are compared with locations by a part of their vectors.
    """

    image_origin: WeightsOrigin
    patch_stride: Pair
    text_origin: WeightsOrigin | None
    logit_scale: nn.Parameter | Tensor | None
    proxy: "DenseModel | None" = None
    proxy_name = ""
    cuts_text = False
    # reading, positions, starts, images and tokens of each, while passes are shared
    _passes: list[tuple[str, str, Sequence[Pair], Tensor, Tokens]] | None = None

    @abstractmethod
    def tokens(self, images: Tensor) -> Tokens:
        """Encode images (B, 3, H, W) uint8; ``parts`` are the locations in row-major order, with
        their grid.
        """

    @abstractmethod
    def head(self, tokens: Tokens) -> Tensor:
        """Pool and project tokens, (B, E), not normalised."""

    @abstractmethod
    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        """Embed K texts.  Returns (K, E), L2-normalised by default."""

    def embed_text_for_locations(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        """Embed K texts to be compared with locations; a subclass says where this is another vector
        than that for images.  Returns (K, E), L2-normalised by default.
        """
        return self.embed_text(texts, normalise=normalise)

    def last_block(self) -> LastBlock | None:
        """Return the parts of the last block; None if the tower has no such block."""
        return None

    def resize_positions(self, positions: str, *, grid: Pair) -> AbstractContextManager[None]:
        """Return a context in which position embeddings are resized by another rule than timm's.

        Raises:
            ValueError: the tower has no absolute position embeddings.
        """
        raise ValueError(
            f"positions={positions}: {type(self).__name__} has no absolute position embeddings to "
            "resize; choose timm"
        )

    def trunk_input(self, images: Tensor) -> tuple[nn.Module, Tensor]:
        """Return the timm model of the image tower and images (B, 3, H, W) uint8 as it takes them.

        Raises:
            ValueError: the tower is not a timm model.
        """
        raise ValueError(
            f"{self.image_origin.source}: its image tower is not a timm model and has no "
            "forward_intermediates"
        )

    def locations(self, tokens: Tokens) -> Tensor:
        """Apply the head to each location alone: (B, N, E), not normalised."""
        alone = tokens.parts.flatten(0, 1)
        summary = None if tokens.summary is None else alone
        vectors = self.head(tokens_of(alone.unsqueeze(1), (1, 1), summary=summary))
        return torch.unflatten(vectors, 0, tokens.parts.shape[:2])

    @property
    def has_text(self) -> bool:
        """True if the model embeds texts."""
        return self.text_origin is not None

    def attach_proxy(self, proxy: "DenseModel | None", *, name: str = "") -> None:
        """Set the proxy model of ``reading="proxyclip"``, and the name that it was opened by."""
        # not as a submodule: the hash of the weights is this model's
        object.__setattr__(self, "proxy", proxy)
        self.proxy_name = name

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed images.  (B, 3, H, W) uint8 to (B, E), L2-normalised."""
        return functional.normalize(self.head(self.encode_shared(images)), dim=-1)

    def embed_patches(
        self,
        images: Tensor,
        *,
        reading: str = "plain",
        positions: str = "timm",
        starts: Sequence[Pair] = (),
    ) -> Tensor:
        """Embed locations by applying the head to each.

        Args:
            images: (B, 3, H, W) uint8.
            reading: a row of ``READINGS``.
            positions: "timm" or "scale_factor", how position embeddings are resized.
            starts: first row and column of each, in pixels, if the images are the windows of one
                image, which a reading by ``compute`` reads together.

        Returns:
            (B, E, h, w), L2-normalised at each location; on the proxy model's grid for a reading
            by it.

        Raises:
            ValueError: the tower lacks the block or the positions, or no proxy model is attached.
        """
        vectors = self.patch_tokens(
            images, projected=True, reading=reading, positions=positions, starts=starts
        )
        return functional.normalize(vectors, dim=1)

    def patch_tokens(
        self,
        images: Tensor,
        *,
        projected: bool,
        reading: str = "plain",
        positions: str = "timm",
        starts: Sequence[Pair] = (),
    ) -> Tensor:
        """Return tokens of locations, not normalised: (B, D, h, w) of the tower, or (B, E, h, w)
        through the head if projected.
        """
        average = READINGS[reading].average
        tokens = self.encode_shared(images, "plain" if average else reading, positions, starts)
        if not projected:
            return maps_of(tokens)
        vectors = self.locations(tokens)
        if average is not None:
            vectors = average(tokens.parts) @ functional.normalize(vectors, dim=-1)
        return maps_of(tokens._replace(parts=vectors))

    def share_passes(self, shared: bool) -> None:
        """Keep the tokens of each pass from now on, for measures that see equal pixels, or stop
        keeping them; drop those of earlier passes.  Weights must not change meanwhile.
        """
        self._passes = [] if shared else None

    def encode_shared(
        self,
        images: Tensor,
        reading: str = "plain",
        positions: str = "timm",
        starts: Sequence[Pair] = (),
    ) -> Tokens:
        """Return the tokens of images under a reading; while passes are shared, those of an earlier
        pass of equal images.
        """
        for *how, seen, tokens in self._passes or ():
            if how == [reading, positions, starts] and torch.equal(seen, images):
                return tokens
        tokens = (
            self.tokens(images)
            if (reading, positions) == ("plain", "timm")
            else self._read_tokens(images, reading, positions=positions, starts=starts)
        )
        if self._passes is not None:
            self._passes.append((reading, positions, starts, images, tokens))
        return tokens

    def grid(self, height: int, width: int) -> Pair:
        """Return the grid (h, w) of an image of (H, W) pixels.

        Raises:
            ValueError: a side that is not a multiple of the stride.
        """
        return grid_of(height, width, stride=self.patch_stride)

    def check_reading(self, reading: str) -> None:
        """Check that the model supports a reading; a ValueError gives the reason if not."""
        if not READINGS.row(reading).keeps_block and self.last_block() is None:
            raise ValueError(
                f"reading={reading}: its image tower has no last block that a dense reading could "
                "recombine; choose reading=plain"
            )

    def check_class_attention(self) -> LastBlock:
        """Return the last block, whose class token's attention can be read; a ValueError gives the
        reason if there is none.
        """
        block = self.last_block()
        if block is None or block.prefix < 1 or not block.class_token:
            raise ValueError(
                "attention grouping needs the attention of a class token, which the image tower "
                "does not have; choose another grouping method"
            )
        return block

    def class_attention(self, images: Tensor) -> Tensor:
        """Return the class token's attention to each patch in the last block, after the softmax;
        call in eval mode.

        Returns:
            (B, heads, h, w) for images (B, 3, H, W) uint8, non-negative; a head sums to 1 together
            with the class token's attention to itself and to registers.

        Raises:
            ValueError: the image tower has no class token, or a last block of another kind.
        """
        block = self.check_class_attention()
        matrices: list[Tensor] = []

        def keep(module: Any, inputs: Any, options: Any, output: Any) -> None:
            heads = block.heads(inputs[0] if inputs else options["hidden_states"], options)
            # timm's order of operations
            matrices.append(attention(heads.query * heads.scale, heads.key, 1))

        with block.module.register_forward_hook(keep, with_kwargs=True):
            self.tokens(images)
        rows = matrices[0][:, :, 0, block.prefix :]
        return torch.unflatten(rows, 2, self.grid(*images.shape[-2:]))

    def _read_tokens(
        self, images: Tensor, reading: str, *, positions: str, starts: Sequence[Pair]
    ) -> Tokens:
        """Encode images with the last block computed by a reading, from position embeddings resized
        by a rule.
        """
        self.check_reading(reading)
        block, grid = self.last_block(), self.grid(*images.shape[-2:])
        features = None
        if READINGS.row(reading).needs_proxy:
            if self.proxy is None:
                raise ValueError(
                    f"reading={reading} needs a proxy model, vision-only, such as "
                    "timm:vit_base_patch8_224.dino; name it as proxy"
                )
            self.proxy.eval().to(images.device)
            features = self.proxy.patch_tokens(images, projected=False)
        with ExitStack() as stack:
            if positions != "timm":
                stack.enter_context(self.resize_positions(positions, grid=grid))
            if reading != "plain" and block is not None:
                stack.enter_context(
                    read_last_block(
                        block,
                        READINGS[reading],
                        grid=grid,
                        features=features,
                        tower=self,
                        starts=starts,
                    )
                )
            tokens = self.tokens(images)
        return (
            tokens
            if features is None
            else tokens._replace(grid=(features.shape[-2], features.shape[-1]))
        )


def share_passes(model: object, shared: bool) -> None:
    """Let the measures of a batch share the tower's passes, or stop; models of other kinds have
    none to share.
    """
    if isinstance(model, DenseModel):
        model.share_passes(shared)
