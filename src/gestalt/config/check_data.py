"""Checks of ``data``: sources, their options and the keys they take, without importing a source, which takes seconds."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gestalt.config.keys import WORDS, in_words
from gestalt.config.schema import Experiment, refuse
from gestalt.config.schema_data import Data
from gestalt.support.names import nearest
from gestalt.support.plugins import added_to

MADE_OF = {
    "recipe": ("recipe",),
    "captions": ("caption", "caption_choice", "caption_template"),
    "cache": ("cache",),
    "max_bad_share": ("max_bad_share",),
    "window": ("window_shards",),
    "parts": ("mixture",),
}
"""Options that only some sources take -> the keys of ``data`` that they are made of."""

REFUSED = ("parts", "captions", "cache")
"""Options whose keys must be at their defaults for a source without the option; scales set the keys of the others for every source."""

TYPES = {"str": str, "int": int, "bool": bool, "None": type(None)}
"""Types of options as a source's file writes them; one with another type is not checked here."""

COMMON = ("root", "size", "seed", "limit", "crops")
"""Arguments of every source, which are not options."""


def check_data(config: Experiment) -> None:
    """Check that every source exists, and that Flickr has its folder.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    data = config.data
    sources = {"data.source": data.source} | {f"data.mixture[{number}].source": part.source for number, part in enumerate(data.mixture)}
    for key, source in sources.items():
        known = [*_sources(), *added_to("sources", tuple(_sources()))]
        if source not in known:
            refuse(key, source, nearest(source, known))
    if data.source == "flickr" and data.root is None:
        refuse("data.root", None, "source flickr needs the folder that holds Images/ and captions.txt, such as data.root=flickr8k")


def check_features(config: Experiment, *, name: str = "data.features") -> None:
    """Check that features of images can be kept: something is frozen, and there is a fixed number of crops of numbered images.

    Raises:
        ConfigError: names the key and what to choose.
    """
    image, data = config.image, config.data
    if not (image.frozen or image.frozen_blocks):
        refuse("image.frozen_blocks", 0, f"{name} holds the output of frozen blocks; choose 1 or more, or image.frozen=true")
    if data.crops is None:
        refuse("data.crops", None, f"{name} holds a number of crops of each image; choose it, such as 1")
    if data.source == "mixture":
        refuse("data.source", data.source, f"its parts have epochs of their own, and {name} has those of one source; choose one of them")


def check_options(config: Experiment) -> None:
    """Check that the sources take the given options and keys.

    Called before pairs are read, but not when a saved run is scored: its sources may have changed.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    data = config.data
    for option, value in data.options.items():
        if option in MADE_OF:
            refuse(f"data.options.{option}", value, f"has a key of its own; set {' or '.join(f'data.{key}' for key in MADE_OF[option])}")
    _check_taken(data.source, data.options, key="data.options")
    for number, part in enumerate(data.mixture):
        _check_taken(part.source, part.options, key=f"data.mixture[{number}].options")
    taken = options_written(data.source)
    for option in REFUSED:
        changed = [key for key in MADE_OF[option] if getattr(data, key) != getattr(Data(), key)]
        if taken is not None and option not in taken and changed:
            refuse(f"data.{changed[0]}", getattr(data, changed[0]), f"source {data.source} does not take it; leave it at its default")


def _check_taken(source: str, options: dict[str, object], *, key: str) -> None:
    kinds = _written(source)
    for option, value in options.items():
        if option == "captions":
            refuse(f"{key}.captions", value, "is made of keys of its own; set caption of the part, or data.caption and the keys beside it")
        if kinds is None:
            continue
        if option not in kinds:
            hidden = ("captions",) if key.startswith("data.mixture") else tuple(MADE_OF)  # those with a key of their own
            choices = [name for name in kinds if name not in hidden]
            why = nearest(option, choices) if choices else "it takes none"
            refuse(f"{key}.{option}", value, f"source {source} takes no such option; {why}")
        allowed = [TYPES.get(word, object) for word in kinds[option].split(" | ")]
        if not isinstance(value, tuple(allowed)) or (isinstance(value, bool) and object not in allowed and bool not in allowed):
            quoted = f"; in quotes it is a text: \"{key}.{option}='{value}'\"" if str in allowed else ""
            refuse(f"{key}.{option}", value, f"must be {in_words(next(kind for kind in allowed if kind in WORDS))}{quoted}")


@cache
def _sources() -> dict[str, Path]:
    """Return the files under ``data_modules/sources`` by name."""
    package = find_spec("data_modules")
    assert package is not None
    assert package.origin is not None
    return {path.stem: path for path in sorted((Path(package.origin).parent / "sources").glob("[!_]*.py"))}


def options_written(name: str) -> tuple[str, ...] | None:
    """Return the arguments of a source's ``open_here`` besides :data:`COMMON`, read from its file; None as ``_written``."""
    kinds = _written(name)
    return None if kinds is None else tuple(kinds)


@cache
def _written(name: str) -> dict[str, str] | None:
    """Return the arguments of a source's ``open_here`` besides :data:`COMMON`, with their types as its file writes them.

    None if it takes ``**keywords``, or if an installed package adds it: its file is not read before it is used.
    """
    if name not in _sources():
        return None
    for node in ast.parse(_sources()[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "open_here" and node.args.kwarg is None:
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            written = {argument.arg: ast.unparse(argument.annotation) if argument.annotation else "" for argument in arguments}
            return {argument: kind for argument, kind in written.items() if argument not in COMMON}
    return None
