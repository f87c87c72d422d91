"""A sentence-transformers model of the plainest kind, read by transformers alone: importing sentence-transformers takes a second.

Any model that might be read differently is left to sentence-transformers, which also reports what is wrong with a folder.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

PLAIN_ENCODERS = frozenset({"bert"})
"""Encoders (``model_type``) for which sentence-transformers takes the class and the arguments that transformers itself chooses."""

TRANSFORMER_KEYS = frozenset({"max_seq_length", "do_lower_case"})
LEGACY_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class PlainModel(NamedTuple):
    """A model of an encoder and a pooling, with or without a last L2 norm.

    Attributes:
        encoder: transformers' model, in eval mode.
        tokenizer: its tokenizer, with the most tokens that the model reads as ``model_max_length``.
        pooling: "mean" or "cls".
    """

    encoder: Any
    tokenizer: Any
    pooling: str


def read_plain_model(folder: Path) -> PlainModel | None:
    """Read a plain model; None for a model that must be left to sentence-transformers."""
    try:
        kinds, pooling_folder = _parts(_json(folder / "modules.json"))
        usual = _json(folder / "config_sentence_transformers.json", missing={})
        settings = _json(folder / "sentence_bert_config.json")
        described, pooled = _json(folder / "config.json"), _json(folder / pooling_folder / "config.json")
        pooling, longest = _pooling(pooled), settings.get("max_seq_length")
        plain = (
            kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
            and usual.get("default_prompt_name") is None
            and usual.get("model_type") in (None, "SentenceTransformer")
            and not settings.keys() - TRANSFORMER_KEYS
            and settings.get("do_lower_case") in (None, False)
            and type(longest) is int
            and described.get("model_type") in PLAIN_ENCODERS
            and "auto_map" not in described
            and not (folder / "adapter_config.json").exists()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not plain or pooling is None:
        return None
    return _read(folder, longest=longest, pooling=pooling)


def _read(folder: Path, *, longest: int, pooling: str) -> PlainModel:
    """Read encoder and tokenizer with the arguments that sentence-transformers gives."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **here)
    config.use_cache = False
    encoder = AutoModel.from_pretrained(folder, config=config, **here)
    return PlainModel(encoder, AutoTokenizer.from_pretrained(folder, model_max_length=longest, **here), pooling)


def _parts(listing: list[dict[str, Any]]) -> tuple[list[str], str]:
    """Return the classes of the parts, and the folder of the pooling.

    Raises:
        ValueError: a part of another package or with further settings, or an encoder in a folder of its own.
    """
    for part in listing:
        if not part["type"].startswith("sentence_transformers.") or part.keys() - {"idx", "name", "path", "type"}:
            raise ValueError(part)
    if listing[0]["path"] != "":
        raise ValueError(listing[0])
    return [part["type"].rpartition(".")[2] for part in listing], str(listing[1]["path"])


def _pooling(settings: dict[str, Any]) -> str | None:
    """Return "mean" or "cls", from the present key or from the flags of earlier versions; None for any other pooling."""
    if "pooling_mode" in settings:
        return next((name for name in LEGACY_POOLINGS.values() if name == settings["pooling_mode"]), None)
    chosen = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    return LEGACY_POOLINGS.get(chosen[0]) if len(chosen) == 1 else None


def _json(path: Path, *, missing: Any = None) -> Any:
    if missing is not None and not path.is_file():
        return missing
    return json.loads(path.read_text(encoding="utf-8"))
