"""SentenceModel: the parts of a sentence-transformers model: encoder, tokenizer, pooling and Dense layers.  D width.

transformers alone reads them: importing sentence-transformers takes a second.  Dropout is switched off and modules without a gradient are
removed, so that the text tower only has to run it.
"""

import copy
import importlib.metadata
import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gestalt.encoders.checkpoints import cause, read_state_dict
from gestalt.encoders.weights import reaching_hub
from gestalt.support.files import replacing

PACKAGE = "package:"
POOLINGS = ("mean", "cls")
LISTING = "modules.json"
"""The file at the root of every sentence-transformers model."""

OTHER_FORMATS = ["onnx/*", "openvino/*", "*.onnx", "*.ot", "*.h5", "*.msgpack", "*.gguf"]

PADDING = 128
"""Rows that a table may have beyond the tokens: tables are padded to a multiple of 128; of large ones, a tenth may be unused."""

ENCODER_ONLY = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel", "longt5": "LongT5EncoderModel"}
"""Classes of transformers that hold the encoder alone of a model with a decoder, by ``model_type``."""


@dataclass(frozen=True)
class SentenceModel:
    """The parts of a sentence-transformers model.

    Attributes:
        encoder: a transformers encoder, float32, without dropout and pooler.
        tokenizer: its tokenizer.
        pooling: "mean" or "cls".
        dense: linear maps of its Dense layers; empty for most models.
        longest: most tokens that the model reads, special ones included.
        source: where it came from, for messages.
    """

    encoder: Any
    tokenizer: Any
    pooling: str
    dense: list[nn.Linear]
    longest: int
    source: str

    @property
    def width(self) -> int:
        """D, after the Dense layers."""
        return self.dense[-1].out_features if self.dense else int(self.encoder.config.hidden_size)


def read_sentence_model(model: str, *, weights: bool, layers: int | None) -> SentenceModel:
    """Find and load a sentence-transformers model.

    Args:
        model: hub name, local folder, or "package:NAME" of an installed Python package that ships a model folder.
        weights: False for the architecture with fresh weights from its own initialiser (global generator).
        layers: keep the first n transformer layers; None keeps all.

    Raises:
        ValueError: the model is not found (the message names the places searched and how to get it), has a part that cannot act on
            single tokens, or has fewer layers.
    """
    folder, source = find_model(model)
    try:
        places, pooling = _read_listing(folder)
        dense = [_read_dense(place, weights=weights) for place in places[1:]]
        encoder, tokenizer = _read_encoder(places[0], weights=weights)
    except Exception as error:  # transformers passes on those of torch, safetensors, json and its own constructors
        raise ValueError(f"text.model {model!r}: {source} cannot be loaded: {cause(error)}") from error
    if not weights:
        for layer in dense:
            layer.reset_parameters()  # drawn after the encoder
    longest = min(tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", math.inf))
    _prepare(encoder)
    if layers is not None:
        keep_layers(encoder, layers, model=model)
    return SentenceModel(encoder, tokenizer, pooling=pooling, dense=dense, longest=int(longest), source=source)


def _read_listing(folder: Path) -> tuple[list[Path], str]:
    """Return the folders of the encoder and of the Dense layers, and the pooling.

    Raises:
        ValueError: a part that cannot act on every token as on the mean over tokens, or a prompt.
    """
    parts = _json(folder / LISTING)
    kinds = [part["type"].rpartition(".")[2] for part in parts]
    middle = kinds[2:-1] if kinds[-1] == "Normalize" else kinds[2:]
    foreign = [part["type"] for part in parts if not part["type"].startswith("sentence_transformers.")]
    if foreign or kinds[:2] != ["Transformer", "Pooling"] or set(middle) - {"Dense"}:
        names = ", ".join(foreign or kinds)
        raise ValueError(f"it is {names}; expected Transformer, Pooling, any number of Dense, optionally Normalize")
    prompt = _json(folder / "config_sentence_transformers.json", missing={}).get("default_prompt_name")
    if prompt is not None:
        raise ValueError(f"it puts its prompt {prompt!r} before each text: choose a model without one")
    places = [folder / part["path"] for part in parts]
    settings = _json(places[1] / "config.json")
    flags = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]  # of earlier versions
    words = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    pooling = settings.get("pooling_mode", words.get(flags[0], flags[0]) if len(flags) == 1 else flags)
    if pooling not in POOLINGS:
        raise ValueError(f"it pools by {pooling!r}: only {' and '.join(POOLINGS)} can act on tokens")
    return [places[0], *places[2 : 2 + len(middle)]], pooling


def _read_encoder(folder: Path, *, weights: bool) -> tuple[Any, Any]:
    """Read the encoder and its tokenizer with the arguments that sentence-transformers gives."""
    import transformers

    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    settings = _json(folder / "sentence_bert_config.json", missing={})
    if settings.get("do_lower_case"):
        raise ValueError("it lowers the case of texts outside its tokenizer (do_lower_case): choose a model without it")
    if (folder / "adapter_config.json").is_file():
        raise ValueError("its weights are an adapter's: merge them into the model first")
    config = transformers.AutoConfig.from_pretrained(folder, **here)
    config.use_cache = False
    kind: Any = getattr(transformers, ENCODER_ONLY.get(config.model_type, "AutoModel"))
    if weights:
        encoder = kind.from_pretrained(folder, config=config, local_files_only=True)
    elif config.model_type in ENCODER_ONLY:
        encoder = kind(config)
    else:
        encoder = kind.from_config(config, dtype=torch.float32, trust_remote_code=False)
    longest = settings.get("max_seq_length")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **({"model_max_length": longest} if longest else {}), **here)
    return encoder, tokenizer


def _read_dense(folder: Path, *, weights: bool) -> nn.Linear:
    """Read a Dense layer, which is linear and so acts on every token as on the mean."""
    settings = _json(folder / "config.json")
    activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if activation != "Identity" or settings.get("use_residual"):
        extra = activation + (" and a residual" if settings.get("use_residual") else "")
        raise ValueError(f"it has a Dense layer with {extra}: only Identity can act on tokens as on their mean")
    layer = nn.Linear(settings["in_features"], settings["out_features"], bias=settings.get("bias", True))
    if weights:
        file = folder / "model.safetensors"
        if not file.is_file():
            file = folder / "pytorch_model.bin"
        layer.load_state_dict({key.removeprefix("linear."): value for key, value in read_state_dict(file).items()})
    return layer


def save_architecture(model: SentenceModel, folder: Path) -> None:
    """Write a model without its weights, in the layout of sentence-transformers, to a folder that is made if missing."""
    config = copy.deepcopy(model.encoder.config)
    config.architectures, config._name_or_path = [type(model.encoder).__name__], ""  # the path is of the machine that exported
    config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": model.longest})
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode": model.pooling})
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    for number, layer in enumerate(model.dense, start=2):
        sizes = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
        _write(folder / f"{number}_Dense" / "config.json", {**sizes, "activation_function": "torch.nn.modules.linear.Identity"})
        parts.append(("Dense", f"{number}_Dense"))
    _write(folder / LISTING, [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in parts])


def _write(path: Path, content: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _json(path: Path, *, missing: Any = None) -> Any:
    if missing is not None and not path.is_file():
        return missing
    return json.loads(path.read_text(encoding="utf-8"))


def _prepare(encoder: Any) -> None:
    """Make an encoder float32, without a pooler and without dropout, in place."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # BERT's, unused: DDP stops on a parameter without a gradient
    encoder.float()  # some weights are stored in half precision
    for part in [*encoder.modules(), encoder.config]:
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def find_model(model: str) -> tuple[Path, str]:
    """Return a model's folder on this machine, and where it came from, for messages; only a hub name may be downloaded.

    Raises:
        ValueError: not found.
    """
    if model.startswith(PACKAGE):
        return _find_in_package(model.removeprefix(PACKAGE))
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / LISTING).is_file():
            raise ValueError(f"text.model: the folder {folder} holds no {LISTING}: it is not a sentence-transformers model")
        return folder, f"folder {folder}"
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ValueError(f"text.model: folder {folder.absolute()} not found. Give a folder, a hub name (OWNER/NAME) or {PACKAGE}NAME")
    return _find_on_hub(model)


def _find_in_package(package: str) -> tuple[Path, str]:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    if not places:
        fix = f"Install it (pip install {package.replace('_', '-')}), or give a folder or a hub name"
        raise ValueError(f"text.model: Python has no package {package!r} (looked in the environment of this interpreter). {fix}")
    listings = [listing for place in places for listing in Path(place).rglob(LISTING)]
    if len(listings) != 1:
        found = f"holds {len(listings)} folders with {LISTING} in {', '.join(places)}"
        raise ValueError(f"text.model: the package {package!r} {found}; expected one")
    try:
        version = f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # the distribution has another name
        version = ""
    return listings[0].parent, f"package {package}{version}"


def _find_on_hub(name: str) -> tuple[Path, str]:
    """Download the files that the cache lacks; use the cached copy if the hub cannot be reached or HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, snapshot_download

    try:
        with reaching_hub() as unreachable:
            folder = Path(snapshot_download(name, ignore_patterns=[*OTHER_FORMATS, "*.bin"]))
            if not all(any(place.glob("*.safetensors")) for place in (folder, *folder.glob("*_Dense"))):
                folder = Path(snapshot_download(name, ignore_patterns=OTHER_FORMATS))  # older repositories hold *.bin only
    except Exception as error:  # of the hub's client: no network, proxy, unknown name, gated model
        searched = f"no folder {Path(name).absolute()}, no copy in the cache {constants.HF_HUB_CACHE}"
        reason = f"{unreachable or f'{constants.ENDPOINT} answered'}: {cause(error)}"
        fix = f"With network: hf download {name}. Without: copy its folder here and set text.model=FOLDER, or install a package:NAME"
        raise ValueError(f"text.model {name!r} was not found: {searched}, and {reason}. {fix}") from error
    if not (folder / LISTING).is_file():
        raise ValueError(f"text.model {name!r}: {folder} holds no {LISTING}: it is not a sentence-transformers model, or incomplete")
    return folder, f"hub {name} at {folder.name}"


def keep_layers(encoder: Any, layers: int, *, model: str) -> None:
    """Keep the first layers of an encoder, in place; 0 keeps the embeddings only.

    Raises:
        ValueError: it has fewer layers, or they cannot be identified.
    """
    total = int(encoder.config.num_hidden_layers)
    stacks = [(name, part) for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList) and len(part) == total]
    if not stacks:
        raise ValueError(
            f"text.layers: the {total} layers of text.model {model!r}, a {type(encoder).__name__}, were not found; set it to null"
        )
    if layers > total:
        raise ValueError(f"text.layers is {layers}: text.model {model!r} has {total} layers, choose 0 to {total}")
    name, stack = stacks[0]  # the outermost: T5's blocks contain lists too
    assert isinstance(stack, nn.ModuleList)
    parent, _, attribute = name.rpartition(".")
    setattr(encoder.get_submodule(parent), attribute, stack[:layers])
    encoder.config.num_hidden_layers = layers


def in_fp16(device: torch.device, dtype: torch.dtype) -> bool:
    """True if matrix products run in float16, by autocast or by the weights' type."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type) == torch.float16
    return dtype == torch.float16


def check_vocabulary(tokenizer: Any, *, rows: int, name: str) -> None:
    """Check that a tokenizer of transformers knows the words of its model.

    Args:
        tokenizer: as read from a folder.
        rows: of the embedding table.
        name: the model, as the user named it, for the message.

    Raises:
        ValueError: it knows fewer tokens than the table has rows, apart from padding.
    """
    if len(tokenizer) >= rows - max(PADDING, rows // 10):
        return
    folder = Path(tokenizer.name_or_path)
    files = sorted(tokenizer.vocab_files_names.values())
    found = [file for file in files if (folder / file).is_file()]
    state = f"{' and '.join(found)} in {folder} is incomplete" if found else f"{folder} has no {' or '.join(files)}"
    raise ValueError(
        f"{name}: its tokenizer knows {len(tokenizer)} tokens and its embedding table has {rows}: {state}; "
        "copy the tokenizer's files there again"
    )
