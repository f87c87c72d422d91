"""Text tower: captions to ``Tokens``.  B batch, N parts, D width.

To add a family: a subclass of ``TextTower``, and its line in ``build_text_tower``.
"""

import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gestalt.config.schema import Text
from gestalt.encoders.text_sentence import check_vocabulary, read_sentence_model, save_architecture
from gestalt.encoders.weights import WeightsOrigin
from gestalt.support.devices import send
from gestalt.tokens import Padded, Tokens

BUCKET = 8
"""Batches are padded to a multiple of this many tokens: few shapes, little padding."""

MASKED_BY_PAIRS = ("bert", "distilbert", "roberta", "t5", "xlm-roberta")
"""``model_type`` of the encoders of transformers that take a mask (B, 1, N, N) as it is; in one of
(B, N) they look for padding, for which the host waits.
"""


class TextTower(nn.Module):
    """Base class: tokenise captions, pad them and encode them.

    Towers have no dropout: it draws from the global random stream, so that a step would depend on
    every earlier draw, and neither an exact resume nor the same step on another number of ranks
    would be possible.

    A subclass sets the attributes after ``super().__init__()``.

    Attributes:
        tokenizer: of a library.
        width: D.
        origin: origin of the weights.
        max_length: most tokens of a caption, special ones included; longer captions are cut.
        padding_id: token id of padding, which is masked.
        fp16_safe: True if float16 gives finite values; False for T5, which overflows and needs
            bfloat16 or float32.
        frozen: True if the tower is frozen for good.
        compiled_parts: the modules that ``encode`` calls and that ``trainer.compile=towers``
            compiles.
    """

    tokenizer: Any
    width: int
    origin: WeightsOrigin
    max_length: int
    padding_id: int
    fp16_safe: bool = True
    frozen: bool = False
    compiled_parts: list[nn.Module]

    def freeze(self) -> Self:
        """Freeze the tower for good: no gradient, and eval mode even in training."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen tower stays in eval mode."""
        return super().train(mode and not self.frozen)

    def without_weights(self) -> Self:
        """Return a tower that tokenises and pads, but cannot encode: loading processes hold no copy
        of the weights.
        """
        bare = type(self).__new__(type(self))
        nn.Module.__init__(bare)
        for name in ("tokenizer", "max_length", "padding_id"):
            setattr(bare, name, getattr(self, name))
        return bare

    def forward(self, texts: list[str] | Padded) -> Tokens:
        """Tokenise B captions on the CPU, pad and encode them; ``Padded`` captions are only
        encoded.

        Returns:
            Parts (B, N, D), special tokens included, N a multiple of ``BUCKET`` or ``max_length``;
            mask False on padding; summary (B, D) or None; grid None. Not L2-normalised.

        Raises:
            ValueError: no caption, a caption without tokens, or float16 in a tower that overflows.
        """
        if not texts:
            raise ValueError("text tower: an empty list of captions; expected at least one")
        weight = next(self.parameters())
        device, product = weight.device, weight.dtype
        if torch.is_autocast_enabled(device.type):
            product = torch.get_autocast_dtype(device.type)
        if not self.fp16_safe and product == torch.float16:
            raise ValueError(
                "text tower: T5 gives NaN in float16; set trainer.precision to bf16-mixed or "
                "32-true"
            )
        ids, mask = texts if isinstance(texts, Padded) else self.pad(texts)
        return self.encode(send(ids, device), send(mask, device))

    def pad(self, texts: list[str]) -> Padded:
        """Return token ids and mask on the CPU, padded on the right to the longest caption's
        bucket.
        """
        rows = self.tokenise(texts)
        length = min(math.ceil(max(map(len, rows)) / BUCKET) * BUCKET, self.max_length)
        if not all(rows):
            raise ValueError(
                f"text tower: the tokenizer returned no token for {texts[rows.index([])]!r}; "
                "expected a special token at least"
            )
        # one tensor for all rows
        ids = torch.tensor(
            [[*tokens, *[self.padding_id] * (length - len(tokens))] for tokens in rows]
        )
        return Padded(ids, torch.arange(length) < torch.tensor([[len(tokens)] for tokens in rows]))

    def tokenise(self, texts: list[str], *, cut: bool = True) -> list[list[int]]:
        """Return the token ids of each caption, special ones included, 1 to ``max_length`` if they
        are cut.
        """
        raise NotImplementedError

    def lengths(self, texts: list[str]) -> list[int]:
        """Return the number of tokens of each caption before it is cut, special ones included."""
        return [len(row) for row in self.tokenise(texts, cut=False)]

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Encode ids (B, N) int64 and mask (B, N) bool."""
        raise NotImplementedError


class SentenceTower(TextTower):
    """A sentence-transformers model without its pooling, whose Dense layers act on every token.

    The masked mean of the parts (the summary, for a model that pools by "cls"), L2-normalised,
    equals sentence-transformers' embedding. The summary is BERT's [CLS] token; T5 has none.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3: Sentence-T5; Ni et al. 2021
    (arXiv:2108.08877).
    """

    def __init__(self, text: Text, *, weights: bool) -> None:
        super().__init__()
        encoder, tokenizer, parts, source = self._built_from = read_sentence_model(
            text.model, weights=weights and text.init != "random", layers=text.layers
        )
        check_vocabulary(
            tokenizer,
            rows=getattr(encoder.config, "vocab_size", 0),
            name=f"text.model {text.model!r}",
        )
        longest = min(
            tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", math.inf)
        )
        if text.max_length > longest:
            raise ValueError(
                f"text.max_length is {text.max_length}: text.model {text.model!r} reads 1 to "
                f"{longest} tokens"
            )
        dense = [part.linear for part in parts if hasattr(part, "linear")]
        self.width = dense[-1].out_features if dense else encoder.config.hidden_size
        if text.init == "random":
            source = f"architecture of {source}, fresh weights"
        self.origin = WeightsOrigin(text.init, source)
        self.max_length = text.max_length
        self.padding_id = tokenizer.pad_token_id
        self.fp16_safe = "t5" not in encoder.config.model_type
        self.model = encoder
        self.compiled_parts = [encoder]
        self.dense = nn.Sequential(*dense)
        self.tokenizer = tokenizer
        self.has_summary = parts[0].pooling_mode == "cls" or tokenizer.cls_token_id is not None

    def save(self, folder: Path) -> None:
        """Write what the tower is built from, without weights: ``text.model`` may then be that
        folder.
        """
        save_architecture(self._built_from, folder)

    def tokenise(self, texts: list[str], *, cut: bool = True) -> list[list[int]]:
        """Return the token ids of the model's tokenizer."""
        return self.tokenizer(
            texts, truncation=cut, max_length=self.max_length if cut else None, verbose=False
        ).input_ids

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the encoder, then the Dense layers on every token."""
        config, attended = self.model.config, mask.long()
        if config.model_type in MASKED_BY_PAIRS and config._attn_implementation == "sdpa":
            attended = mask[:, None, None].expand(-1, -1, mask.shape[1], -1)
        parts = self.dense(self.model(input_ids=ids, attention_mask=attended).last_hidden_state)
        return Tokens(
            summary=parts[:, 0] if self.has_summary else None, parts=parts, mask=mask, grid=None
        )


class OpenClipTower(TextTower):
    """open_clip's causal text transformer with CLIP's tokenizer, from random weights, up to its
    final LayerNorm.

    The summary is the end-of-text token, the last part before padding. CLIP's projection is left
    out: the dual encoder has its own.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4; open_clip 3.3,
    ``transformer.TextTransformer``.
    """

    def __init__(self, text: Text) -> None:
        super().__init__()
        import open_clip
        from open_clip.tokenizer import SimpleTokenizer
        from open_clip.transformer import QuickGELU, TextTransformer

        source = (
            f"open_clip {open_clip.__version__} text transformer, {text.layers} layers, "
            f"{text.width} wide, {text.heads} heads, fresh weights"
        )
        assert text.width  # config/check.py
        self.width = text.width
        self.origin = WeightsOrigin("random", source)
        self.max_length = text.max_length
        self.padding_id = 0
        self.tokenizer = SimpleTokenizer(context_length=text.max_length)
        self.model: Any = TextTransformer(
            context_length=text.max_length,
            vocab_size=self.tokenizer.vocab_size,
            width=text.width,
            heads=text.heads,
            layers=text.layers,
            act_layer=QuickGELU if text.family == "open_clip_quickgelu" else nn.GELU,
            proj_type="none",  # an unused projection would get no gradient
        )
        self.compiled_parts = [self.model.transformer]

    def tokenise(self, texts: list[str], *, cut: bool = True) -> list[list[int]]:
        """Return the token ids of each caption, from the start to the end token."""
        first, last = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        words = self.max_length - 2 if cut else None
        return [[first, *self.tokenizer.encode(text)[:words], last] for text in texts]

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the transformer; its causal mask hides padding, which comes last."""
        length = ids.shape[1]
        embedded = self.model.token_embedding(ids) + self.model.positional_embedding[:length]
        parts = self.model.ln_final(
            self.model.transformer(embedded, attn_mask=self.model.attn_mask[:length, :length])
        )
        last = mask.sum(dim=1) - 1  # (B,) index of the end-of-text token
        return Tokens(
            summary=parts[torch.arange(len(parts), device=parts.device), last],
            parts=parts,
            mask=mask,
            grid=None,
        )


def build_text_tower(text: Text, *, weights: bool = True) -> TextTower:
    """Build a text tower; fresh weights are drawn from torch's global generator, which the caller
    seeds.

    Args:
        text: its configuration.
        weights: False where a checkpoint's weights follow; the model's own are then not read.

    Raises:
        ValueError: a size that the family lacks or needs, or a model that is not found.
    """
    tower = (
        SentenceTower(text, weights=weights) if text.family == "sentence" else OpenClipTower(text)
    )
    return tower.freeze() if text.frozen else tower
