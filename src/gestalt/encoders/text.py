"""Text tower: captions in, tokens out.  B batch, N parts, D width.

``build_text_tower`` makes one. To add a family: a class beside the two, and its row in ``INITS`` and ``FAMILIES``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from gestalt.encoders.text_sentence import in_fp16, read_sentence_model
from gestalt.support.names import nearest
from gestalt.tokens import Tokens

BUCKET = 8
"""Batches are padded to a multiple of this many tokens: few shapes, little padding."""

INITS: dict[str, tuple[str, ...]] = {"sentence": ("sentence", "random"), "open_clip": ("random",)}  # family -> what it can start from


@dataclass(frozen=True)
class TextOrigin:
    """What a tower really starts from: for logs and results.

    Attributes:
        init: the init used.
        source: where weights and architecture came from, for people.
    """

    init: str
    source: str


class TextTower(nn.Module):
    """Captions to tokens, whatever makes them.

    No tower has dropout in training: it draws from the global random stream, and a step would depend on all that was drawn before it,
    so neither an exact resume nor the same step on another number of ranks would be possible.

    Args:
        width: D.
        origin: what the tower starts from.
        max_length: most tokens of a caption, special ones included; the rest is cut.
        padding_id: token id that fills a row up; nothing reads it.
        fp16_safe: whether float16 gives finite numbers. T5 overflows: bfloat16 or float32 there.
    """

    def __init__(self, *, width: int, origin: TextOrigin, max_length: int, padding_id: int, fp16_safe: bool) -> None:
        super().__init__()
        self.width = width
        self.origin = origin
        self.max_length = max_length
        self.padding_id = padding_id
        self.fp16_safe = fp16_safe
        self.frozen = False

    def freeze(self) -> Self:
        """Stop all learning, for good: no gradient, and evaluation mode even in training."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, which a frozen tower never enters."""
        return super().train(mode and not self.frozen)

    def forward(self, texts: list[str]) -> Tokens:
        """Tokenise on the CPU, pad to the bucket, run.

        Returns:
            parts (B, N, D) after the tower's end, special tokens included, N a multiple of 8 or ``max_length``; mask False on padding;
            summary (B, D) or None; grid None. Not L2-normalised.

        Raises:
            ValueError: no caption, a caption without any token, or float16 in a tower that overflows there.
        """
        if not texts:
            raise ValueError("text tower: an empty list of captions; expected at least one")
        weight = next(self.parameters())
        if not self.fp16_safe and in_fp16(weight.device, weight.dtype):
            raise ValueError("text tower: T5 gives NaN in float16; set trainer.precision to bf16-mixed or 32-true")
        ids, mask = self.pad(texts)
        return self.encode(ids.to(weight.device, non_blocking=True), mask.to(weight.device, non_blocking=True))

    def pad(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Captions to ids (B, N) int64 and mask (B, N) bool on the CPU, padded on the right to the longest caption's bucket."""
        rows = self.tokenise(texts)
        longest = max(map(len, rows))
        length = min(math.ceil(longest / BUCKET) * BUCKET, self.max_length)
        ids = torch.full((len(rows), length), self.padding_id)
        for row, tokens in enumerate(rows):
            if not tokens:
                raise ValueError(f"text tower: the tokenizer makes no token of the caption {texts[row]!r}; expected a special one at least")
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids, torch.arange(length) < torch.tensor([[len(tokens)] for tokens in rows])

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """Ids of each caption, special ones included, 1 to ``max_length``."""
        raise NotImplementedError

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Ids (B, N) and mask (B, N) to tokens."""
        raise NotImplementedError


class SentenceTower(TextTower):
    """A sentence-transformers model up to its pooling, its Dense layers on every token.

    The masked mean of the parts (or the summary, where the model pools by "cls"), L2-normalised, is what sentence-transformers computes.
    The summary is the [CLS] token of BERT and its kin; T5 has none.

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3: Sentence-T5; Ni et al. 2021 (arXiv:2108.08877).
    """

    def __init__(self, model: str, *, init: str, layers: int | None, max_length: int) -> None:
        found = read_sentence_model(model, fresh=init == "random", layers=layers)
        if not 1 <= max_length <= found.longest:
            raise ValueError(f"text.max_length is {max_length}: text.model {model!r} reads 1 to {found.longest} tokens")
        fp16_safe = "t5" not in found.encoder.config.model_type
        super().__init__(
            width=found.width,
            origin=TextOrigin(init, found.source),
            max_length=max_length,
            padding_id=found.tokenizer.pad_token_id,
            fp16_safe=fp16_safe,
        )
        self.model = found.encoder
        self.dense = nn.Sequential(*found.dense)
        self.tokenizer: Any = found.tokenizer
        self.has_summary = found.pooling == "cls" or found.tokenizer.cls_token_id is not None

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """Ids as the model's own tokenizer makes them."""
        rows: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        return rows

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the encoder, then the Dense layers on every token."""
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        parts: Tensor = self.dense(hidden)
        return Tokens(summary=parts[:, 0] if self.has_summary else None, parts=parts, mask=mask, grid=None)


class OpenClipTower(TextTower):
    """open_clip's causal text transformer with CLIP's tokenizer, from random weights, up to its final LayerNorm.

    The summary is the end-of-text token, the last part that is not padding. CLIP's own projection is left out: ours is another part.

    Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4; open_clip 3.3, ``transformer.TextTransformer``.
    """

    def __init__(self, *, layers: int, width: int, heads: int, max_length: int) -> None:
        import open_clip
        from open_clip.tokenizer import SimpleTokenizer
        from open_clip.transformer import TextTransformer

        source = f"open_clip {open_clip.__version__} text transformer, {layers} layers, {width} wide, {heads} heads, fresh weights"
        super().__init__(width=width, origin=TextOrigin("random", source), max_length=max_length, padding_id=0, fp16_safe=True)
        self.tokenizer: Any = SimpleTokenizer(context_length=max_length)
        self.model: Any = TextTransformer(
            context_length=max_length,
            vocab_size=self.tokenizer.vocab_size,
            width=width,
            heads=heads,
            layers=layers,
            proj_type="none",  # a projection that nobody reads would get no gradient
        )

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """Ids of each caption between its start and end tokens."""
        rows: list[list[int]] = self.tokenizer(texts).tolist()  # padded with 0 to max_length
        return [row[: row.index(self.tokenizer.eot_token_id) + 1] for row in rows]

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the transformer. Each token sees itself and those before it, so padding, which comes after, is never seen."""
        length = ids.shape[1]
        embedded = self.model.token_embedding(ids) + self.model.positional_embedding[:length]
        parts: Tensor = self.model.ln_final(self.model.transformer(embedded, attn_mask=self.model.attn_mask[:length, :length]))
        last = mask.sum(dim=1) - 1  # (B,) where the end-of-text token is
        return Tokens(summary=parts[torch.arange(len(parts), device=parts.device), last], parts=parts, mask=mask, grid=None)


def build_text_tower(
    family: str, *, model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int, frozen: bool
) -> TextTower:
    """Make a text tower; its fresh weights come from torch's global generator, which the caller seeds.

    Args:
        family: "sentence" (any sentence-transformers model) or "open_clip" (its text transformer).
        model: "sentence" only: hub name, local folder, or "package:NAME" of a pip package that ships a model folder.
        init: "sentence" keeps the model's weights; "random" keeps its architecture and draws them anew. open_clip: "random" only.
        layers: "sentence": keep the first n, None keeps all. "open_clip": how many, at least 1.
        width: "open_clip" only, channels.
        heads: "open_clip" only, attention heads.
        max_length: most tokens of a caption, special ones included.
        frozen: no gradient, evaluation mode always.

    Raises:
        ValueError: an unknown name, a size that the family does not take or needs, or a model that is not there.
    """
    _check_name("family", family, known=tuple(FAMILIES))
    _check_name("init", init, known=INITS[family])
    tower = FAMILIES[family](model, init, layers, width, heads, max_length)
    return tower.freeze() if frozen else tower


def _sentence(model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int) -> TextTower:
    for key, value in {"width": width, "heads": heads}.items():
        if value is not None:
            raise ValueError(f"text.{key} is {value}, but text.model {model!r} has its own: leave it null for text.family sentence")
    return SentenceTower(model, init=init, layers=layers, max_length=max_length)


def _open_clip(model: str, init: str, layers: int | None, width: int | None, heads: int | None, max_length: int) -> TextTower:
    if layers is None or width is None or heads is None or min(layers, width, heads) < 1:
        sizes = f"text.layers={layers}, text.width={width}, text.heads={heads}"
        raise ValueError(f"text.family open_clip needs positive layers, width and heads, found {sizes}; CLIP's ViT-B/16 has 12, 512 and 8")
    if width % heads:
        raise ValueError(f"text.width is {width}, which text.heads {heads} does not divide")
    if max_length < 3:
        raise ValueError(f"text.max_length is {max_length}: start, end and one word need at least 3 tokens")
    return OpenClipTower(layers=layers, width=width, heads=heads, max_length=max_length)


FAMILIES: dict[str, Callable[[str, str, int | None, int | None, int | None, int], TextTower]] = {
    "sentence": _sentence,
    "open_clip": _open_clip,
}


def _check_name(key: str, name: str, *, known: tuple[str, ...]) -> None:
    """Refuse a name that is not among the known."""
    if name not in known:
        raise ValueError(f"text.{key} {name!r} is unknown here: {nearest(name, known)}")
