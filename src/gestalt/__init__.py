"""Gestalt: perceptual grouping in contrastive vision-language models.

``load`` opens a model; the classes are those of the model and of its results.  All are imported on
first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gestalt.api import Model, SegmentedImage, load

__all__ = ["Model", "SegmentedImage", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("gestalt.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
