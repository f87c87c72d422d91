"""Checks of ``data``: sources, their options and the keys they take, without importing a source,
which takes seconds.
"""

import ast
from functools import cache
from typing import Any

from gestalt.config.schema import Complaints, Experiment, refuse, refuse_first
from gestalt.config.schema_data import Data, MixturePart
from gestalt.data_modules.opening import COMMON, files_of, modules_of
from gestalt.support.names import nearest
from gestalt.support.typed import in_words
from gestalt.tables import IMAGE_TOWERS

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
"""Options whose keys must be at their defaults for a source without the option; scales set the keys
of the others for every source.
"""

TYPES = {"str": str, "int": int, "bool": bool, "None": type(None)}
"""Types of options as a source's file writes them; one with another type is not checked here."""


def check_data(config: Experiment) -> None:
    """Check that every source exists, and that Flickr has its folder.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    data = config.data
    sources = {"data.source": data.source} | {
        f"data.mixture[{number}].source": part.source for number, part in enumerate(data.mixture)
    }
    known = modules_of("sources")
    for key, source in sources.items():
        if source not in known:
            refuse(key, source, nearest(source, known))
    if data.source == "flickr" and data.root is None:
        refuse(
            "data.root",
            None,
            "source flickr needs the folder that holds Images/ and captions.txt, such as "
            "data.root=flickr8k",
        )


def check_features(config: Experiment, *, name: str = "data.features") -> None:
    """Check that features of images can be kept: something is frozen, and there is a fixed number
    of crops of numbered images.

    Raises:
        ConfigError: names the key and what to choose.
    """
    refuse_first(config, _of_features(config, name))


def _of_features(config: Experiment, name: str) -> Complaints:
    if config.image.family not in IMAGE_TOWERS.built_in:
        why = f"{name} holds what the first half of a tower of timm computes; choose vit or cnn"
        yield "image.family", why
    if not (config.image.frozen or config.image.frozen_blocks):
        why = f"{name} holds the output of frozen blocks; choose 1 or more, or image.frozen=true"
        yield "image.frozen_blocks", why
    if config.data.crops is None:
        yield "data.crops", f"{name} holds a number of crops of each image; choose it, such as 1"
    if config.data.source == "mixture":
        why = f"its parts have epochs of their own, and {name} has those of one source"
        yield "data.source", f"{why}; choose one of them"


def check_options(config: Experiment) -> None:
    """Check that the sources take the given options and keys.

    Called before pairs are read, but not when a saved run is scored: its sources may have changed.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    data = config.data
    _check_taken(data, MADE_OF, place="data")
    for number, part in enumerate(data.mixture):
        _check_taken(part, {"captions": ("caption",)}, place=f"data.mixture[{number}]")
    taken = options_written(data.source)
    for option in REFUSED:
        changed = [key for key in MADE_OF[option] if getattr(data, key) != getattr(Data(), key)]
        if taken is not None and option not in taken and changed:
            why = f"source {data.source} does not take it; leave it at its default"
            refuse(f"data.{changed[0]}", getattr(data, changed[0]), why)


def _check_taken(part: Data | MixturePart, keys: Any, *, place: str) -> None:
    """Check names and types of the options that are given at a place; ``keys`` are those made of
    keys of their own, as in ``MADE_OF``.
    """
    written = options_written(part.source)
    for option, value in part.options.items():
        name = f"{place}.options.{option}"
        if option in keys:
            instead = " or ".join(f"{place}.{key}" for key in keys[option])
            refuse(name, value, f"has a key of its own; set {instead}")
        if written is None:
            continue
        if option not in written:
            choices = [known for known in written if known not in keys]
            refuse(
                name,
                value,
                f"source {part.source} takes no such option; "
                f"{nearest(option, choices) if choices else 'it takes none'}",
            )
        kinds = [TYPES.get(word) for word in written[option].split(" | ")]
        if None not in kinds and type(value) not in kinds:
            quoted = f"; in quotes it is a text: \"{name}='{value}'\"" if str in kinds else ""
            refuse(name, value, f"must be {in_words(kinds[0])}{quoted}")


@cache
def options_written(name: str) -> dict[str, str] | None:
    """Return the arguments of a source's ``open_here`` besides :data:`COMMON`, with their types as
    its file writes them.

    None if it takes ``**keywords``, or if an installed package adds it: its file is not read before
    it is used.
    """
    file = files_of("sources").get(name)
    for node in ast.parse(file.read_text(encoding="utf-8")).body if file else ():
        if (
            isinstance(node, ast.FunctionDef)
            and node.name == "open_here"
            and node.args.kwarg is None
        ):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            return {
                each.arg: ast.unparse(each.annotation)
                for each in arguments
                if each.annotation and each.arg not in COMMON
            }
    return None
