"""The configuration of a transformers model, read without running code of it."""

from typing import Any

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
"""Keys that select an attention; a value with a slash is a repository, whose code would be downloaded and run."""


def read_config(name: str, *, asked_as: str) -> dict[str, Any]:
    """Read ``config.json`` of a folder, of the hub's cache or of the hub.

    Args:
        name: a folder, or ORG/NAME on the hub.
        asked_as: beginning of a message, such as ``hf:ORG/NAME``.

    Raises:
        ValueError: it cannot be read, or it names code that is not a part of transformers.
    """
    from transformers import PretrainedConfig

    try:
        config: dict[str, Any] = PretrainedConfig.get_config_dict(name)[0]
    except (OSError, ValueError) as error:
        raise ValueError(f"{asked_as}: config.json of {name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config.get("model_type"), str):
        raise ValueError(f"{asked_as}: no config.json with a model_type in {name}; give a folder or a repository of transformers")
    nodes: list[Any] = [config]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, dict):
            continue
        for key, value in node.items():
            if key == "auto_map" or (key in ATTENTION_KEYS and "/" in str(value)):
                raise ValueError(f"{asked_as}: config.json of {name} has {key}, which would run code of that model; it is never run here")
            nodes.append(value)
    return config
