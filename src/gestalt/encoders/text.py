"""Text tower: captions to ``Tokens``.  B batch, N parts, D width.

To add a family: a subclass of ``TextTower``, and its row in ``tables.py``.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from gestalt.encoders.keys import Text
from gestalt.encoders.open_clip_texts import TEXTS
from gestalt.encoders.sentence_files import LISTING
from gestalt.encoders.text_sentence import PART, read_sentence_model
from gestalt.encoders.vocabulary import check_vocabulary
from gestalt.encoders.weights import WeightsOrigin
from gestalt.support.devices import autocasting, send
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

    A subclass is made of the configuration's ``Text``, has ``encode``, and sets after
    ``super().__init__()`` the width, the longest caption, the padding and a tokenizer, or has its
    own ``tokenise``.  With ``text.init`` "random" its weights are fresh, and a checkpoint's may
    follow; otherwise it reads weights, and sets ``origin``.

    Attributes:
        tokenizer: of transformers, unless a subclass tokenises.
        width: D.
        origin: origin of the weights; that of fresh ones is set by the builder.
        max_length: most tokens of a caption, special ones included; longer captions are cut.
        padding_id: token id of padding, which is masked.
        bucket: batches are padded to a multiple of this many tokens.
        fp16_safe: True if float16 gives finite values; False for T5, which overflows and needs
            bfloat16 or float32.
        frozen: True if the tower is frozen for good: no gradient, and eval mode even in training.
        compiled_parts: the modules that ``encode`` calls and that ``trainer.compile=towers``
            compiles; if empty, its children.
    """

    tokenizer: Any
    width: int
    origin: WeightsOrigin
    max_length: int
    padding_id: int
    bucket = BUCKET
    fp16_safe: bool = True
    frozen: bool = False
    compiled_parts: Sequence[nn.Module] = ()

    def freeze(self) -> None:
        """Freeze the tower for good."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen tower stays in eval mode."""
        return super().train(mode and not self.frozen)

    def without_weights(self) -> Self:
        """Return a tower that tokenises and pads, but cannot encode: loading processes hold no copy
        of the weights.
        """
        bare = type(self).__new__(type(self))
        nn.Module.__init__(bare)
        for name, value in vars(self).items():
            values = value if isinstance(value, list | tuple) else [value]
            if name not in vars(bare) and not any(
                isinstance(each, nn.Module | Tensor) for each in values
            ):
                setattr(bare, name, value)
        return bare

    def forward(self, texts: list[str] | Padded) -> Tokens:
        """Tokenise B captions on the CPU, pad and encode them; ``Padded`` captions are only
        encoded.

        Returns:
            Parts (B, N, D), special tokens included, N a multiple of ``bucket`` or ``max_length``;
            mask False on padding; summary (B, D) or None; grid None. Not L2-normalised.

        Raises:
            ValueError: no caption, a caption without tokens, or float16 in a tower that overflows.
        """
        if not texts:
            raise ValueError("text tower: an empty list of captions; expected at least one")
        weight = next(self.parameters())
        device, product = weight.device, weight.dtype
        if autocasting(device.type):
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
        length = min(math.ceil(max(map(len, rows)) / self.bucket) * self.bucket, self.max_length)
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
        return self.tokenizer(
            texts, truncation=cut, max_length=self.max_length if cut else None, verbose=False
        ).input_ids

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
        encoder, tokenizer, pooling, dense, parts, source = read_sentence_model(
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
        self._parts = parts
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
        self.has_summary = pooling == "cls" or tokenizer.cls_token_id is not None

    def save(self, folder: Path) -> None:
        """Write what the tower is built from, without weights, to a folder that is made if missing:
        ``text.model`` may then be that folder.
        """
        rows = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
        for number, (kind, settings) in enumerate(self._parts, start=1):
            place = f"{number}_{kind.rpartition('.')[2]}"
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / PART).write_text(json.dumps(settings, indent=4), encoding="utf-8")
            rows.append({"path": place, "type": kind})
        listing = [{"idx": number, "name": str(number), **row} for number, row in enumerate(rows)]
        (folder / LISTING).write_text(json.dumps(listing, indent=2), encoding="utf-8")
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the encoder, then the Dense layers on every token."""
        config, attended = self.model.config, mask.long()
        if config.model_type == "mpnet":  # it adds a mask of four dimensions to its scores
            attended = ~mask[:, None, None] * torch.finfo(torch.float32).min
        elif config.model_type in MASKED_BY_PAIRS and config._attn_implementation == "sdpa":
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

        assert text.width  # config/check.py
        self.width = text.width
        self.origin = WeightsOrigin(
            "random",
            f"open_clip {open_clip.__version__} text transformer, {text.layers} layers, "
            f"{text.width} wide, {text.heads} heads, fresh weights",
        )
        self.max_length = text.max_length
        self.padding_id = 0
        self.tokenizer = open_clip.SimpleTokenizer(context_length=text.max_length)
        form = TEXTS[text.family]
        config = {
            "context_length": text.max_length,
            "vocab_size": text.vocabulary or self.tokenizer.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "mlp_ratio": text.mlp_ratio,
            **form.get("text_cfg", {}),
        }
        # without an output width, and so without a projection, which would get no gradient
        self.model: Any = open_clip.model._build_text_tower(None, config, "quick_gelu" in form)
        self.compiled_parts = [self.model.transformer]

    def tokenise(self, texts: list[str], *, cut: bool = True) -> list[list[int]]:
        """Return the token ids of each caption, from the start to the end token."""
        first, last = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        words = self.max_length - 2 if cut else None
        return [[first, *self.tokenizer.encode(text)[:words], last] for text in texts]

    def encode(self, ids: Tensor, mask: Tensor) -> Tokens:
        """Run the transformer; a causal mask hides padding, which comes last."""
        model, length = self.model, ids.shape[1]
        embedded = model.token_embedding(ids) + model.positional_embedding[:length]
        causal = model.attn_mask
        # (B,) index of the end-of-text token, or without a causal mask of the last of all
        last = (mask | (causal is None)).sum(dim=1) - 1
        if causal is not None:
            causal = causal[:length, :length]
        parts = model.ln_final(model.transformer(embedded, attn_mask=causal))
        return Tokens(
            summary=parts[torch.arange(len(parts), device=parts.device), last],
            parts=parts,
            mask=mask,
            grid=None,
        )


class SiglipTower(OpenClipTower):
    """SigLIP's text transformer, of a start that has its weights and its tokenizer.

    It reads padding to the full length, and its summary is the last token.  A checkpoint holds the
    tokenizer: the UTF-8 of its ``tokenizer.json``, with the padding that open_clip sets.

    Source: Zhai et al. 2023 (arXiv:2303.15343); open_clip 3.3, ``tokenizer.HFTokenizer``.
    """

    bucket = 2**31  # more than any caption has: to max_length
    _file = torch.empty(0)

    def get_extra_state(self) -> Tensor:
        """Return the file of the tokenizer, bytes."""
        return self._file

    def set_extra_state(self, state: Tensor) -> None:
        """Read the tokenizer from the bytes of its file; a ValueError refuses others."""
        from tokenizers import Tokenizer

        self._file = state.cpu()
        try:
            self.tokenizer = Tokenizer.from_buffer(bytes(self._file.numpy()))
            self.padding_id = self.tokenizer.padding["pad_id"]
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"text tower: its tokenizer cannot be read: {error}") from error
        self.tokenizer.no_padding()

    def tokenise(self, texts: list[str], *, cut: bool = True) -> list[list[int]]:
        """Return the token ids of each caption, in lower case and without punctuation."""
        from open_clip.tokenizer import get_clean_fn

        self.tokenizer.enable_truncation(self.max_length if cut else self.bucket)
        rows = self.tokenizer.encode_batch([*map(get_clean_fn("canonicalize"), texts)])
        return [row.ids for row in rows]
