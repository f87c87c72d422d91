"""transformers' contrastive models, taken apart: a class for each family.  B batch, N locations, D
width, E shared width, G groups, H W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.dense_model import maps_of, tokens_of
from gestalt.encoders.last_block import LastBlock, transformers_block
from gestalt.encoders.positions import interpolate_positions
from gestalt.models.zoo.adapter import Adapter
from gestalt.tokens import Pair, Tokens


@contextmanager
def _positions_of_any_grid() -> Iterator[None]:
    """Let transformers resize position embeddings at the model's own grid too, while a graph is
    exported.

    transformers leaves its own grid as it is unless torch traces; an exported graph would then be
    valid for either the model's own grid or all others.
    """
    if not torch.compiler.is_exporting():
        yield
        return
    with patch("torch.jit.is_tracing", return_value=True):
        yield


class HfModel(Adapter):
    """A model of transformers: a subclass reads one family.

    Position embeddings are resized to the grid by the library's own rule, unless
    ``resize_positions`` gives another.

    Args:
        model: with weights.
        tokenizer: the model's own.
        max_length: most tokens of a text; longer ones are cut.
        arguments: arguments of ``Adapter``.
    """

    prefix = 0  # class tokens
    padding: str | bool = True
    offset = 0  # positions of a text that are not tokens

    def __init__(self, model: Any, *, tokenizer: Any, max_length: int, **arguments: Any) -> None:
        scale = getattr(model, "logit_scale", None)
        if hasattr(model, "temperature"):  # ALIGN divides cosines
            scale = -model.temperature.log()
        super().__init__(model, logit_scale=scale, **arguments)
        self.tokenizer = tokenizer
        self.max_length = max_length

    @property
    def vision(self) -> Any:
        """The image tower."""
        return self.model.vision_model

    @property
    def before(self) -> int:
        """Tokens before the locations: the class token and registers, which have no position."""
        return self.prefix + getattr(self.model.config.vision_config, "num_register_tokens", 0)

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts, (K, E), not normalised."""
        words = self.tokenizer(
            texts,
            padding=self.padding,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            # padded on the left, a text's positions would depend on the longest text
            padding_side="right" if self.padding is True else None,
        ).to(self.mean.device)
        words.pop("token_type_ids", None)
        return self.pooled_text(**words)

    def pooled_text(self, **inputs: Tensor) -> Tensor:
        """Embed token ids and mask, (K, E), not normalised."""
        return self.model.get_text_features(**inputs).pooler_output

    def hidden(self, pixels: Tensor) -> Tensor:
        """Run the image tower on normalised pixels (B, 3, H, W): (B, prefix + N, D)."""
        return self.vision(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W), up to the last norm that all locations share."""
        with _positions_of_any_grid():
            hidden = self.hidden(pixels)
        summary = hidden[:, 0] if self.prefix else None
        return tokens_of(hidden[:, self.before :], summary=summary)

    def last_block(self) -> LastBlock | None:
        """Return the parts of the image tower's last block; None where it has no such block."""
        encoder = self.vision.encoder
        layers = getattr(encoder, "layers", None) or getattr(encoder, "layer", None)
        return None if layers is None else transformers_block(layers[-1], prefix=self.before)

    @contextmanager
    def resize_positions(self, positions: str, *, grid: Pair) -> Iterator[None]:
        """Resize position embeddings, within the context, by another rule than the library's."""
        embeddings = self.vision.embeddings
        if not hasattr(embeddings, "interpolate_pos_encoding"):
            raise ValueError(
                f"positions={positions}: {type(self.model).__name__} resizes its position "
                "embeddings itself; choose timm"
            )
        table = next(
            table.flatten(0, -2)
            for name, table in embeddings.named_parameters()
            if name.startswith("position_embedding")
        )
        side = int((len(table) - self.prefix) ** 0.5)
        resized = interpolate_positions(
            table, prefix=self.prefix, old=(side, side), new=grid, how=positions
        ).unsqueeze(0)
        embeddings.interpolate_pos_encoding = lambda tokens, height, width: resized
        try:
            yield
        finally:
            del embeddings.interpolate_pos_encoding


class HfClip(HfModel):
    """CLIP, MetaCLIP 2, Chinese-CLIP: class token, last norm, projection."""

    prefix = 1

    def hidden(self, pixels: Tensor) -> Tensor:
        """Run the image tower and its last norm: (B, 1 + N, D)."""
        return self.vision.post_layernorm(super().hidden(pixels))

    def head(self, tokens: Tokens) -> Tensor:
        """Project the class token: (B, E)."""
        return self.model.visual_projection(tokens.summary)


class HfAltClip(HfClip):
    """AltCLIP, whose text tower, a RoBERTa, counts positions from padding + 1."""

    offset = 2


class HfBlip(HfModel):
    """BLIP's contrastive model, which norms its class token twice."""

    prefix = 1

    def head(self, tokens: Tokens) -> Tensor:
        """Norm and project the class token: (B, E)."""
        return self.model.visual_projection(self.vision.post_layernorm(tokens.summary))


class HfBlipRetrieval(HfBlip):
    """BLIP's retrieval model by its contrastive heads; the head that matches an image with a text
    is not used.
    """

    def head(self, tokens: Tokens) -> Tensor:
        """Project the class token: (B, E)."""
        return self.model.vision_proj(tokens.summary)

    def pooled_text(self, **inputs: Tensor) -> Tensor:
        """Project the first token, (K, E), not normalised."""
        return self.model.text_proj(self.model.text_encoder(**inputs).last_hidden_state[:, 0])


class HfTips(HfModel):
    """TIPSv2, whose image embedding is the first class token; the second, of synthetic captions, is
    a register.
    """

    prefix = 1

    def hidden(self, pixels: Tensor) -> Tensor:
        """Run the image tower and its last norm: (B, 1 + registers + N, D)."""
        return self.vision(pixel_values=pixels).last_hidden_state

    def head(self, tokens: Tokens) -> Tensor:
        """Take the class token: (B, E)."""
        assert tokens.summary is not None
        return tokens.summary


class HfSiglip(HfModel):
    """SigLIP: attention pooling; a location alone is its value path.  Texts are padded to full
    length, as in its training.
    """

    padding = "max_length"

    def text_features(self, texts: list[str]) -> Tensor:
        """Embed K texts, (K, E), not normalised: in lower case and without punctuation, as SigLIP's
        tokenizer makes them, and open_clip for the Gemma tokenizer of SigLIP 2, which would not.
        """
        if not hasattr(self.tokenizer, "canonicalize_text"):
            from open_clip.tokenizer import get_clean_fn

            texts = [*map(get_clean_fn("canonicalize"), texts)]
        return super().text_features(texts)

    def head(self, tokens: Tokens) -> Tensor:
        """Pool by attention: (B, E)."""
        return self.vision.head(tokens.parts)


class HfSiglip2(HfSiglip):
    """SigLIP 2 of any aspect ratio: the input is patches, row by row, each (p, p, 3) flat."""

    def hidden(self, pixels: Tensor) -> Tensor:
        """Run the image tower on normalised pixels (B, 3, H, W): (B, N, D)."""
        patches = functional.unfold(pixels, self.patch_stride, stride=self.patch_stride)
        patches = patches.unflatten(1, (3, -1)).permute(0, 3, 2, 1).flatten(2)  # type: ignore[no-untyped-call]
        mask = patches.new_ones(patches.shape[:2], dtype=torch.long)
        shapes = mask.new_tensor([self.grid(*pixels.shape[-2:])]).expand(pixels.shape[0], -1)
        return self.vision(
            pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes
        ).last_hidden_state


class HfAlign(HfModel):
    """ALIGN: an EfficientNet whose pooled map is the embedding."""

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W) to the map before pooling."""
        return tokens_of(self.vision(pixel_values=pixels).last_hidden_state)

    def head(self, tokens: Tokens) -> Tensor:
        """Pool the map: (B, E)."""
        return self.vision.pooler(maps_of(tokens)).flatten(1)


class HfGroupViT(HfModel):
    """GroupViT: the parts are each location's shares of the last groups (B, N, G), the summary the
    group tokens, flat (B, G D).

    Source: ``GroupViTModel.forward`` with ``output_segmentation``: shares are the product of the
    stages' soft assignments.
    """

    def encode(self, pixels: Tensor) -> Tokens:
        """Encode normalised pixels (B, 3, H, W)."""
        with _positions_of_any_grid():
            hidden = self.vision.embeddings(pixels, interpolate_pos_encoding=True)
        output = self.vision.encoder(
            hidden_states=hidden,
            output_attentions=True,
            return_dict=True,
        )
        shares = output.attentions[0].transpose(1, 2)
        for stage in output.attentions[1:]:
            shares = shares @ stage.transpose(1, 2)
        groups = self.vision.layernorm(output.last_hidden_state)  # (B, G, D)
        return tokens_of(shares, summary=groups.flatten(1))

    def head(self, tokens: Tokens) -> Tensor:
        """Project the mean group: (B, E)."""
        return self.model.visual_projection(self._groups(tokens).mean(dim=1))

    def locations(self, tokens: Tokens) -> Tensor:
        """Mix the groups' unit embeddings by each location's shares: (B, N, E)."""
        groups = self._groups(tokens)
        unit = functional.normalize(self.model.visual_projection(groups.flatten(0, 1)), dim=-1)
        return tokens.parts @ unit.reshape(*groups.shape[:2], -1)

    def _groups(self, tokens: Tokens) -> Tensor:
        assert tokens.summary is not None
        return tokens.summary.reshape(tokens.parts.shape[0], tokens.parts.shape[-1], -1)
