"""Tiny sentence-transformers models on disk: BERT, and T5 with a Dense layer as Sentence-T5 has
it.  D is 8, or 6 after Dense.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gestalt.encoders.keys import Text
from gestalt.encoders.text import TextTower
from gestalt.encoders.towers import build_text_tower

WORDS = ["a", "dog", "cat", "on", "grass", "photo", "of", "two", "apples", "and"]


def tokenizer(*, bert: bool) -> Any:
    """One word, one token; BERT's [CLS] and [SEP] around it, T5's end token after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<pad>", "</s>", "<unk>"]
    unknown = "[UNK]" if bert else "<unk>"
    fast = Tokenizer(
        models.WordLevel(
            {word: number for number, word in enumerate(special + WORDS)}, unk_token=unknown
        )
    )
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    template = (
        ("[CLS] $A [SEP]", [("[CLS]", 2), ("[SEP]", 3)]) if bert else ("$A </s>", [("</s>", 1)])
    )
    fast.post_processor = processors.TemplateProcessing(
        single=template[0], special_tokens=template[1]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if bert else {"eos_token": "</s>"}
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=fast, pad_token=special[0], unk_token=unknown, model_max_length=32, **names
    )


def save(
    folder: Path,
    model: Any,
    words: Any,
    *,
    pooling: str = "mean",
    activation: nn.Module | None = None,
) -> str:
    """Write a sentence-transformers model; with an activation, one with a Dense layer as
    Sentence-T5 has it.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )

    model.save_pretrained(folder / "raw")
    words.save_pretrained(folder / "raw")
    parts = [Transformer(str(folder / "raw")), Pooling(8, pooling_mode=pooling)]
    parts += [] if activation is None else [Dense(8, 6, bias=False, activation_function=activation)]
    SentenceTransformer(modules=[*parts, Normalize()], device="cpu").save(
        str(folder / "model"), create_model_card=False
    )
    return str(folder / "model")


def save_bert(folder: Path, **choices: Any) -> str:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    return save(
        folder,
        BertModel(BertConfig(vocab_size=16, max_position_embeddings=32, **sizes)),
        tokenizer(bert=True),
        **choices,
    )


def save_t5(folder: Path, *, activation: nn.Module | None = None) -> str:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 3, "num_heads": 2}
    model = T5EncoderModel(T5Config(vocab_size=16, **sizes))
    return save(folder, model, tokenizer(bert=False), activation=activation or nn.Identity())


def sentence(model: str, **choices: Any) -> TextTower:
    return build_text_tower(Text(model=model, **{"max_length": 32, **choices}))
