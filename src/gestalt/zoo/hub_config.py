"""The configuration of a transformers model, read without running code of it."""

from collections.abc import Callable, Iterator
from typing import Any

from gestalt.encoders.checkpoints import cause
from gestalt.encoders.weights import reaching_hub

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
"""Keys that select an attention; a value with a slash is a repository, whose code would be
downloaded and run.
"""


def read_config(name: str, *, asked_as: str) -> dict[str, Any]:
    """Read ``config.json`` of a folder, of the hub's cache or of the hub.

    Args:
        name: a folder, or ORG/NAME on the hub.
        asked_as: beginning of a message, such as ``hf:ORG/NAME``.

    Raises:
        ValueError: it cannot be read, or it or the tokenizer's configuration names code that is not
            a part of transformers.
    """
    from transformers import PretrainedConfig

    config: dict[str, Any] = _read(
        "config.json", name, by=lambda: PretrainedConfig.get_config_dict(name)[0], asked_as=asked_as
    )
    if not isinstance(config.get("model_type"), str):
        raise ValueError(
            f"{asked_as}: no config.json with a model_type in {name}; give a folder or a "
            "repository of transformers"
        )
    check_tokenizer(name, asked_as=asked_as)
    return config


def check_tokenizer(name: str, *, asked_as: str) -> None:
    """Check that a tokenizer needs no code of its own; arguments as ``read_config``.

    Raises:
        ValueError: its configuration cannot be read, or it names code.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    _read("tokenizer_config.json", name, by=lambda: get_tokenizer_config(name), asked_as=asked_as)


def _read(
    file: str, name: str, *, by: Callable[[], dict[str, Any]], asked_as: str
) -> dict[str, Any]:
    """Read one of the JSON files of a model, which names no code."""
    try:
        with reaching_hub() as hub:
            config = by()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{asked_as}: {file} of {name} cannot be read: {cause(error, hub=hub)}"
        ) from error
    _refuse_code(config, where=f"{asked_as}: {file} of {name}")
    return config


def nested(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a configuration, at any depth."""
    nodes: list[Any] = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            yield from node.items()
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


def _refuse_code(config: dict[str, Any], *, where: str) -> None:
    """Refuse a configuration that names code of the model's own."""
    for key, value in nested(config):
        if key == "auto_map" or (key in ATTENTION_KEYS and "/" in str(value)):
            raise ValueError(
                f"{where} has {key}, which would run code of that model; it is never run here"
            )
