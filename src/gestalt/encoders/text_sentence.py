"""SentenceModel: a sentence-transformers model taken apart into encoder, tokenizer, pooling and Dense layers.  D width.

Dropout is switched off and modules without a gradient are removed, so that the text tower only has to run it.
"""

import copy
import importlib.metadata
import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from gestalt.encoders.checkpoints import cause
from gestalt.encoders.text_plain import read_plain_model
from gestalt.encoders.weights import reaching_hub

PACKAGE = "package:"
POOLINGS = ("mean", "cls")
LISTING = "modules.json"
"""The file at the root of every sentence-transformers model."""

OTHER_FORMATS = ["onnx/*", "openvino/*", "*.onnx", "*.ot", "*.h5", "*.msgpack", "*.gguf"]


@dataclass(frozen=True)
class SentenceModel:
    """The parts of a sentence-transformers model.

    Attributes:
        encoder: a transformers encoder, float32, without dropout and pooler.
        tokenizer: its tokenizer.
        pooling: "mean" or "cls".
        dense: linear maps of its Dense layers; empty for most models.
        width: D, after the Dense layers.
        longest: most tokens that the model reads, special ones included.
        source: where it came from, for messages.
    """

    encoder: Any
    tokenizer: Any
    pooling: str
    dense: list[nn.Linear]
    width: int
    longest: int
    source: str


def read_sentence_model(model: str, *, fresh: bool, layers: int | None) -> SentenceModel:
    """Find, load and take apart a sentence-transformers model.

    Args:
        model: hub name, local folder, or "package:NAME" of an installed Python package that ships a model folder.
        fresh: keep the architecture with fresh weights from its own initialiser (global generator).
        layers: keep the first n transformer layers; None keeps all.

    Raises:
        ValueError: the model is not found (the message names the places searched and how to get it), has a part that cannot act on
            single tokens, or has fewer layers.
    """
    folder, source = find_model(model)
    parts = _parts_of(folder, model=model, source=source)
    encoder, tokenizer, pooling, dense = parts.encoder, parts.tokenizer, parts.pooling, parts.dense
    longest = min(tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", math.inf))
    if fresh:
        encoder = type(encoder)(copy.deepcopy(encoder.config))
        for linear in dense:
            linear.reset_parameters()
        source = f"architecture of {source}, fresh weights"
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # BERT's, unused: DDP stops on a parameter without a gradient
    encoder.float()  # some weights are stored in half precision
    silence_dropout(encoder)
    if layers is not None:
        keep_layers(encoder, layers, model=model)
    width = dense[-1].out_features if dense else int(encoder.config.hidden_size)
    return SentenceModel(encoder, tokenizer, pooling=pooling, dense=dense, width=width, longest=int(longest), source=source)


class _Parts(NamedTuple):
    """The parts of ``SentenceModel`` as they are stored."""

    encoder: Any
    tokenizer: Any
    pooling: str
    dense: list[nn.Linear]


def _parts_of(folder: Path, *, model: str, source: str) -> _Parts:
    """Load a model and take it apart: by transformers alone if it is a plain one, else by sentence-transformers."""
    try:
        if (plain := read_plain_model(folder)) is not None:
            return _Parts(plain.encoder, plain.tokenizer, plain.pooling, [])
        from sentence_transformers import SentenceTransformer

        loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it passes on those of torch, safetensors and transformers
        raise ValueError(f"text.model {model!r}: {source} cannot be loaded: {cause(error)}") from error
    if loaded.default_prompt_name is not None:
        raise ValueError(
            f"text.model {model!r} puts its prompt {loaded.default_prompt_name!r} before each text: choose a model without one"
        )
    parts: list[Any] = list(loaded)
    pooling, dense = _read_head(parts, model=model)
    return _Parts(parts[0].auto_model, parts[0].tokenizer, pooling, dense)


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
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"text.model: Python has no package {package!r} (looked in the environment of this interpreter). "
            f"Install it (pip install {package.replace('_', '-')}), or give a folder or a hub name"
        )
    listings = sorted(listing for place in spec.submodule_search_locations for listing in Path(place).rglob(LISTING))
    if len(listings) != 1:
        places = ", ".join(spec.submodule_search_locations)
        raise ValueError(f"text.model: the package {package!r} holds {len(listings)} folders with {LISTING} in {places}; expected one")
    distributions = importlib.metadata.packages_distributions().get(package, [])
    version = f" {importlib.metadata.version(distributions[0])}" if distributions else ""
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
        offline = unreachable or f"{constants.ENDPOINT} answered"
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ValueError(
            f"text.model {name!r} was not found: no folder {Path(name).absolute()}, no copy in the cache {constants.HF_HUB_CACHE}, "
            f"and {offline}: {reason}. With network: hf download {name}. Without: copy its folder here and set text.model=FOLDER, "
            f"or name a pip package that ships one, text.model={PACKAGE}NAME"
        ) from error
    if not (folder / LISTING).is_file():
        raise ValueError(f"text.model {name!r}: {folder} holds no {LISTING}: it is not a sentence-transformers model, or incomplete")
    return folder, f"hub {name} at {folder.name}"


def _read_head(parts: list[Any], *, model: str) -> tuple[str, list[nn.Linear]]:
    """Return the pooling mode and the Dense layers, which are linear and so act on every token as on the mean.

    Raises:
        ValueError: a part that does not commute with the mean over tokens.
    """
    kinds = [type(part).__name__ for part in parts]
    middle = kinds[2:-1] if kinds[-1] == "Normalize" else kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or set(middle) - {"Dense"}:
        raise ValueError(
            f"text.model {model!r} is {', '.join(kinds)}; expected Transformer, Pooling, any number of Dense, optionally Normalize"
        )
    pooling = parts[1].pooling_mode
    if pooling not in POOLINGS:
        raise ValueError(f"text.model {model!r} pools by {pooling!r}: only {' and '.join(POOLINGS)} can act on tokens")
    dense = [part for part in parts if type(part).__name__ == "Dense"]
    for layer in dense:
        if not isinstance(layer.activation_function, nn.Identity) or getattr(layer, "use_residual", False):
            extra = type(layer.activation_function).__name__ + (" and a residual" if getattr(layer, "use_residual", False) else "")
            raise ValueError(f"text.model {model!r} has a Dense layer with {extra}: only Identity can act on tokens as on their mean")
    return pooling, [layer.linear for layer in dense]


def check_layers(model: str, *, layers: int) -> None:
    """Check that a model has as many layers, before it is loaded.

    Raises:
        ValueError: it has fewer, or is not found.
    """
    folder, _ = find_model(model)
    for path in (folder / "0_Transformer" / "config.json", folder / "config.json"):
        if path.is_file():
            try:
                record = json.loads(path.read_text())
                total = record.get("num_hidden_layers", record.get("num_layers"))
                count = None if total is None else int(total)
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(f"text.model {model!r}: {path} is not the configuration of a model ({error})") from error
            if count is not None:
                _refuse_layers(layers, total=count, model=model)
            return


def _refuse_layers(layers: int, *, total: int, model: str) -> None:
    if not 0 <= layers <= total:
        raise ValueError(f"text.layers is {layers}: text.model {model!r} has {total} layers, choose 0 to {total}")


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
    _refuse_layers(layers, total=total, model=model)
    name, stack = stacks[0]  # the outermost: T5's blocks contain lists too
    assert isinstance(stack, nn.ModuleList)
    parent, _, attribute = name.rpartition(".")
    setattr(encoder.get_submodule(parent), attribute, stack[:layers])
    encoder.config.num_hidden_layers = layers


def silence_dropout(encoder: nn.Module) -> None:
    """Set every dropout probability to 0: of modules, of layers that store it as a number, and of the config."""
    for part in [*encoder.modules(), encoder.config]:
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def in_fp16(device: torch.device, dtype: torch.dtype) -> bool:
    """True if matrix products run in float16, by autocast or by the weights' type."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type) == torch.float16
    return dtype == torch.float16
