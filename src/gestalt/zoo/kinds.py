"""The kinds of other people's models, one file each.

A kind's file has ``check(name)``, which reads the configuration alone and refuses before weights are downloaded; ``open_model(name)``; and
``describe(name)``, the part of the record that names library, version and architecture.
"""

from importlib import import_module
from typing import Any

from gestalt.encoders.dense_model import DenseModel
from gestalt.support.names import nearest

KINDS: dict[str, str] = {
    "hf": "gestalt.zoo.hf",
    "open_clip": "gestalt.zoo.open_clip",
    "python": "gestalt.zoo.python",
    "timm": "gestalt.zoo.timm",
}
"""Kind to the module of its adapter."""


def adapter(kind: str) -> Any:
    """Return the module of a kind.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind}: an unknown kind of model; {nearest(kind, list(KINDS))}")
    return import_module(KINDS[kind])


def open_vision(target: str) -> DenseModel:
    """Open the model ``kind:name`` for its image features.

    Raises:
        ValueError: an unknown kind, code, or a model that cannot be opened.
    """
    kind, _, name = target.partition(":")
    if kind == "python":  # the target may come from a file, and a file must not run code
        raise ValueError(f"{target}: a model of your own code is named on the command line alone; choose another kind of second model")
    model: DenseModel = adapter(kind).open_model(name)
    return model.eval()
