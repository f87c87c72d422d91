"""The configuration of a transformers model, read without running code of it."""

from collections.abc import Iterator
from typing import Any

from gestalt.models.zoo.adapter import errors_in_one_line
from gestalt.support.keys import Keys

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
"""Keys that select an attention; a value with a slash is a repository, whose code would be
downloaded and run.
"""


def read_config(name: str, *, target: str) -> Keys:
    """Read ``config.json`` of a folder, of the hub's cache or of the hub.

    Args:
        name: a folder, or ORG/NAME on the hub.
        target: beginning of a message, such as ``hf:ORG/NAME``.

    Raises:
        ValueError: it cannot be read, or it or the tokenizer's configuration names code that is not
            a part of transformers.
    """
    from transformers import PretrainedConfig

    place = f"{target}: config.json of {name}"
    with errors_in_one_line(f"{place} cannot be read"):
        config = PretrainedConfig.get_config_dict(name)[0]
    _refuse_code(config, place)
    if not isinstance(config.get("model_type"), str):
        raise ValueError(
            f"{target}: no config.json with a model_type in {name}; give a folder or a "
            "repository of transformers"
        )
    check_tokenizer(name, target=target)
    return config


def check_tokenizer(name: str, *, target: str) -> None:
    """Check that a tokenizer needs no code of its own; ``target`` begins a message.

    Raises:
        ValueError: its configuration cannot be read, or it names code.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    place = f"{target}: tokenizer_config.json of {name}"
    with errors_in_one_line(f"{place} cannot be read"):
        config = get_tokenizer_config(name)
    _refuse_code(config, place)


def nested(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a configuration, at any depth."""
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            yield from node.items()
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


def _refuse_code(config: Keys, place: str) -> None:
    """Refuse a configuration that names code of the model's own."""
    for key, value in nested(config):
        if key == "auto_map" or (key in ATTENTION_KEYS and "/" in str(value)):
            raise ValueError(
                f"{place} has {key}, which would run code of that model; it is never run here"
            )
