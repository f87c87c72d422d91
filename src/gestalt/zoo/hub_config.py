"""The configuration of a transformers model, read without running code of it."""

from pathlib import Path
from typing import Any

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
"""Keys that select an attention; a value with a slash is a repository, whose code would be downloaded and run."""


def read_config(name: str, *, asked_as: str) -> dict[str, Any]:
    """Read ``config.json`` of a folder, of the hub's cache or of the hub.

    Args:
        name: a folder, or ORG/NAME on the hub.
        asked_as: beginning of a message, such as ``hf:ORG/NAME``.

    Raises:
        ValueError: it cannot be read, or it or its tokenizer's names code that is not a part of transformers.
    """
    from transformers import PretrainedConfig

    _reach(name, asked_as=asked_as)
    try:
        config: dict[str, Any] = PretrainedConfig.get_config_dict(name)[0]
    except (OSError, ValueError) as error:
        raise ValueError(f"{asked_as}: config.json of {name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config.get("model_type"), str):
        raise ValueError(f"{asked_as}: no config.json with a model_type in {name}; give a folder or a repository of transformers")
    _refuse_code(config, where=f"{asked_as}: config.json of {name}")
    check_tokenizer(name, asked_as=asked_as)
    return config


def check_tokenizer(name: str, *, asked_as: str) -> None:
    """Check that a tokenizer needs no code of its own; arguments as ``read_config``.

    Raises:
        ValueError: its configuration cannot be read, or it names code.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        config = get_tokenizer_config(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{asked_as}: tokenizer_config.json of {name} cannot be read: {' '.join(str(error).split())}") from error
    _refuse_code(config, where=f"{asked_as}: tokenizer_config.json of {name}")


def _refuse_code(config: dict[str, Any], *, where: str) -> None:
    """Refuse a configuration that names code of the model's own, at any depth."""
    nodes: list[Any] = [config]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, dict):
            continue
        for key, value in node.items():
            if key == "auto_map" or (key in ATTENTION_KEYS and "/" in str(value)):
                raise ValueError(f"{where} has {key}, which would run code of that model; it is never run here")
            nodes.append(value)


def _reach(name: str, *, asked_as: str) -> None:
    """Check that a repository is in the hub's cache or can be reached; an unreachable hub fails at once, without retries."""
    import huggingface_hub

    if Path(name).is_dir():
        return
    try:
        if not isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(name, "config.json"), timeout=5)
    except Exception as error:  # the hub's client also raises its HTTP library's errors; the mend is the same
        raise ValueError(
            f"{asked_as}: {name} is neither a folder here, nor in the hub's cache, nor can it be reached ({str(error).splitlines()[0]}); "
            f"give a folder, or run `hf download {name}` where huggingface.co can be reached and copy the cache"
        ) from error
