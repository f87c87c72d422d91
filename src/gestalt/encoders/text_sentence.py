"""Reading sentence-transformers models, as the text tower runs them: without pooler and dropout,
cut to their first layers.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gestalt.encoders.sentence_files import LISTING, find_model
from gestalt.encoders.state_dicts import cause, check_weights, load_weights, read_state_dict
from gestalt.support.files import Fields, check_folder

POOLINGS = ("mean", "cls")
PART = "config.json"
"""The file of a part's settings, in the part's folder."""

OLDER = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
"""Settings of a Pooling in older files -> how it pools."""

KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
"""Encoders in the name of the file with a tokenizer's length and case; the first is the name for
all encoders since.
"""

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments with which the libraries read a folder: no download, no code of a model's own."""


class SentenceModel(NamedTuple):
    """A sentence-transformers model in float32 on the CPU, without pooler and dropout.

    Attributes:
        encoder: of transformers.
        tokenizer: of transformers; its ``model_max_length`` is the longest text that it takes.
        pooling: "mean" or "cls".
        dense: linear layers after the pooling.
        parts: type and settings of each part after the encoder, as in its files.
        source: where it came from, for messages.
    """

    encoder: Any
    tokenizer: Any
    pooling: str
    dense: list[nn.Linear]
    parts: list[tuple[str, Fields]]
    source: str


def read_sentence_model(model: str, *, weights: bool, layers: int | None) -> SentenceModel:
    """Find and load a sentence-transformers model.

    Args:
        model: hub name, local folder, or "package:NAME" of an installed Python package that ships a
            model folder.
        weights: False for the architecture with fresh weights from its own initialiser (global
            generator).
        layers: keep the first n transformer layers; None keeps all.

    Raises:
        ValueError: the model is not found (the message names the places searched and how to get
            it), has a part that cannot act on single tokens, or has fewer layers.
    """
    folder, source = find_model(model)
    try:
        check_folder(folder)
        rows = _checked_parts(folder)
        if weights:
            check_weights(folder)
        read = _read(folder, rows, source, weights=weights)
        longest = read.tokenizer.model_max_length
        if not isinstance(longest, int | float):
            raise ValueError(f"its longest text is {longest!r}: set max_seq_length to a number")
    except Exception as error:
        # transformers passes on those of torch, safetensors and json
        raise ValueError(
            f"text.model {model!r}: {source} cannot be loaded: {cause(error)}"
        ) from error
    _prepare(read.encoder)
    if layers is not None:
        keep_layers(read.encoder, layers, model=model)
    return read


def _checked_parts(folder: Path) -> list[dict[str, str]]:
    """Return the rows of ``LISTING``, after a check that a model has parts that can act on tokens,
    and that no setting of it may make transformers run code or change a text.

    Raises:
        ValueError: it has not, or a setting may.
    """
    for path in folder.rglob("sentence_*_config.json"):
        if any(value and key.endswith(("_args", "_kwargs")) for key, value in _json(path).items()):
            raise ValueError(
                f"{path.name} has arguments for transformers, which could make it run code: choose "
                "a model without them"
            )
    if any(folder.rglob("adapter_config.json")):
        raise ValueError("its weights are an adapter's: merge them into the model first")
    rows: list[dict[str, str]] = _json(folder / LISTING)
    kinds = [_kind(row) for row in rows]
    middle = kinds[2:-1] if kinds[-1:] == ["Normalize"] else kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or set(middle) - {"Dense"}:
        raise ValueError(
            f"it is {', '.join(kinds)}; expected Transformer, Pooling, any number of Dense, "
            "optionally Normalize"
        )
    for row in rows:
        place = Path(row["path"])
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"its {LISTING} names {row['path']!r}: a part must be in the folder")
        if not row["type"].startswith("sentence_transformers."):
            raise ValueError(
                f"its {LISTING} names {row['type']}: choose a model of sentence-transformers' own "
                "classes"
            )
    settings = folder / "config_sentence_transformers.json"
    prompt = _json(settings).get("default_prompt_name") if settings.is_file() else None
    if prompt is not None:
        raise ValueError(
            f"it puts its prompt {prompt!r} before each text: choose a model without one"
        )
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _kind(row: dict[str, str]) -> str:
    """Return the class that a row of ``LISTING`` names, without its module."""
    return row["type"].rpartition(".")[2]


def _read(folder: Path, rows: list[dict[str, str]], source: str, *, weights: bool) -> SentenceModel:
    """Build a model of the parts that ``rows`` name as sentence-transformers does, with its weights
    or with fresh ones.
    """
    import transformers

    first, *others = rows
    places = [folder / row["path"] for row in others]
    settings = [_json(place / PART) if (place / PART).is_file() else {} for place in places]
    kinds = [row["type"] for row in others]
    pooling = _pooling(settings[0])
    dense = {
        place: _dense(options)
        for kind, place, options in zip(kinds, places, settings, strict=True)
        if kind.endswith("Dense")
    }
    place = folder / first["path"]
    config = transformers.AutoConfig.from_pretrained(place, **LOCAL)
    factory: Any = (
        transformers.AutoModelForTextEncoding
        if type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        else transformers.AutoModel
    )
    if weights:
        encoder = factory.from_pretrained(place, config=config, dtype=torch.float32, **LOCAL)
    else:
        encoder = factory.from_config(config, dtype=torch.float32)
    for place_of_dense, linear in dense.items():
        if weights:
            _load_dense(linear, place_of_dense)
        else:
            linear.reset_parameters()  # drawn after the encoder
    parts = [*zip(kinds, settings, strict=True)]
    tokenizer = _tokenizer(place, config)
    return SentenceModel(encoder, tokenizer, pooling, [*dense.values()], parts, source)


def _pooling(settings: Fields) -> str:
    """Return how a model pools, "mean" or "cls", from the settings of its Pooling.

    Raises:
        ValueError: it pools otherwise, or in several ways.
    """
    # older files have a flag for each way
    older = [key for key, value in settings.items() if value and key.startswith("pooling_mode_")]
    modes = settings.get("pooling_mode", [OLDER.get(key, key) for key in older] or "mean")
    mode = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    if mode not in POOLINGS:
        raise ValueError(f"it pools by {mode!r}: only {' and '.join(POOLINGS)} can act on tokens")
    return str(mode)


def _dense(settings: Fields) -> nn.Linear:
    """Return the layer of a Dense, with fresh weights.

    Raises:
        ValueError: it does not act on each token as on the mean over tokens.
    """
    activation = settings.get("activation_function", "Tanh")
    extra = activation.rpartition(".")[2]
    extra += " and a residual" if settings.get("use_residual") else ""
    if extra != "Identity":
        raise ValueError(
            f"it has a Dense layer with {extra}: only Identity can act on tokens as on their mean"
        )
    bias = settings.get("bias", True)
    return nn.Linear(settings["in_features"], settings["out_features"], bias=bias)


def _load_dense(linear: nn.Linear, place: Path) -> None:
    """Load the weights of a Dense layer from its folder, in place."""
    file = place / "model.safetensors"
    if not file.is_file():
        file = place / "pytorch_model.bin"
    state = read_state_dict(file)
    weights = {name.removeprefix("linear."): value for name, value in state.items()}
    load_weights(linear, weights, misfit=f"{file} does not fit its {PART}")


def _tokenizer(place: Path, config: Any) -> Any:
    """Read the tokenizer of an encoder, with the length and the case that its folder sets."""
    from tokenizers.normalizers import Lowercase, Sequence
    from transformers import AutoTokenizer

    files = (place / f"sentence_{kind}_config.json" for kind in KINDS)
    settings: Fields = next(filter(None, map(_json, filter(Path.is_file, files))), {})
    length = settings.get("max_seq_length")
    tokenizer: Any = AutoTokenizer.from_pretrained(
        place, **LOCAL, **({} if length is None else {"model_max_length": length})
    )
    positions = getattr(config, "max_position_embeddings", -1)
    if length is None and positions != -1:  # XLNet's, which has no limit
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    if settings.get("do_lower_case"):
        fast = tokenizer.backend_tokenizer
        fast.normalizer = Sequence([Lowercase(), *filter(None, [fast.normalizer])])
    return tokenizer


def _prepare(encoder: Any) -> None:
    """Take the pooler, the dropout and the path of this machine out of an encoder, in place."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # BERT's, unused: DDP stops on a parameter without a gradient
    encoder.config._name_or_path = ""  # would be written to exported folders
    for part in [*encoder.modules(), encoder.config]:
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def keep_layers(encoder: Any, layers: int, *, model: str) -> None:
    """Keep the first layers of an encoder, in place; 0 keeps the embeddings only.

    Raises:
        ValueError: it has fewer layers, or they cannot be identified.
    """
    total = int(encoder.config.num_hidden_layers)
    stacks = [
        (name, part)
        for name, part in encoder.named_modules()
        if isinstance(part, nn.ModuleList) and len(part) == total
    ]
    if not stacks:
        raise ValueError(
            f"text.layers: the {total} layers of text.model {model!r}, a {type(encoder).__name__}, "
            "were not found; set it to null"
        )
    if layers > total:
        raise ValueError(
            f"text.layers is {layers}: text.model {model!r} has {total} layers, choose 0 to {total}"
        )
    name, stack = stacks[0]  # the outermost: T5's blocks contain lists too
    encoder.set_submodule(name, stack[:layers])
    encoder.config.num_hidden_layers = layers
