"""The libraries of external models, one file each: ``zoo/<kind>.py``.

A kind's file has ``open_model(name)``, which refuses by the configuration alone before weights are
downloaded, or, where the towers are ours, ``load_into``; and ``describe(name)``, the part of the
record that names library, version and architecture.  Its line stands in ``runs/names.py``, the
check of its names in ``zoo/names.py``.
"""

from importlib import import_module
from typing import Any

from gestalt.encoders.dense_model import DenseModel
from gestalt.models.names import EXTERNAL
from gestalt.models.zoo.names import check_name
from gestalt.support.names import nearest


def library_of(kind: str, name: str) -> Any:
    """Return the module that opens models of a kind, after a check of the name.

    Raises:
        ValueError: an unknown kind, or a name that means no model.
    """
    if kind not in EXTERNAL:
        raise ValueError(f"{kind}: an unknown kind of model; {nearest(kind, list(EXTERNAL))}")
    check_name(kind, name)
    return import_module(f"gestalt.models.zoo.{kind}")


def open_vision(target: str) -> DenseModel:
    """Open the model ``kind:name`` for its image features.

    Raises:
        ValueError: an unknown kind, code, or a model that cannot be opened.
    """
    kind, _, name = target.partition(":")
    # the target may come from a file, and a file must not run code
    if kind in ("python", "clippy", "classifier"):
        raise ValueError(
            f"{target}: such a model is named on the command line alone; choose another kind of "
            "proxy model"
        )
    return library_of(kind, name).open_model(name).eval()
