"""What may be read: sources, their options, and keys that do not go together, told before a source is imported, which takes seconds."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gestalt.config.check_evaluation import refuse
from gestalt.config.schema import Data, Experiment
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.support.names import nearest

RECIPES = ("prototype", "scenes_v1", "prototype_spurious", "scenes_v1_spurious")  # of scenes

MADE_OF = {
    "recipe": ("recipe",),
    "captions": ("caption", "caption_choice", "caption_template"),
    "cache": ("cache",),
    "cache_gib": ("cache_gib",),
    "max_bad_share": ("max_bad_share",),
    "window": ("window_shards",),
    "parts": ("mixture",),
}
"""Options of some sources that have keys of ``data`` of their own."""

REFUSED = ("parts", "captions", "cache", "cache_gib")
"""Those of them whose keys a source without the option refuses; a scale sets the others for all."""

COMMON = ("root", "size", "seed", "limit")
"""What every source takes, and no options."""


def check_data(config: Experiment) -> None:
    """Sources that exist, and values that make sense.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    known = list(_sources())
    if config.data.source not in known:
        refuse("data.source", config.data.source, nearest(config.data.source, known))
    for number, part in enumerate(config.data.mixture):
        if part.source not in known:
            refuse(f"data.mixture[{number}].source", part.source, nearest(part.source, known))
    _check_values(config)


def check_options(config: Experiment) -> None:
    """Options and keys that the source takes: where its pairs are to be read, and not where a run that read others is scored.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    data = config.data
    for option, value in data.options.items():
        if option in MADE_OF:
            refuse(f"data.options.{option}", value, "has a key of its own, which is not under data.options; choose that")
    _check_taken(data.source, data.options, key="data.options")
    for number, part in enumerate(data.mixture):
        _check_taken(part.source, part.options, key=f"data.mixture[{number}].options")
    taken = options_written(data.source)
    for option in REFUSED:
        changed = [key for key in MADE_OF[option] if getattr(data, key) != getattr(Data(), key)]
        if taken is not None and option not in taken and changed:
            refuse(f"data.{changed[0]}", getattr(data, changed[0]), f"source {data.source} does not take it; leave it as it is")


def _check_taken(name: str, options: dict[str, object], *, key: str) -> None:
    taken = options_written(name)
    for option, value in options.items():
        if option == "captions":
            refuse(f"{key}.captions", value, "is made of keys of its own; choose caption of the part, or data.caption and those beside it")
        if taken is not None and option not in taken:
            own = [each for each in taken if each != "captions"]
            refuse(f"{key}.{option}", value, f"source {name} takes no such option; {nearest(option, own) if own else 'it takes none'}")


def _check_values(config: Experiment) -> None:
    data = config.data
    uses_scenes = "scenes" in (data.source, *(BENCHMARKS[name].source for name in config.evaluation.benchmarks if name in BENCHMARKS))
    if uses_scenes and data.recipe not in RECIPES:
        refuse("data.recipe", data.recipe, nearest(data.recipe, list(RECIPES)))
    if data.caption_template is not None and "{}" not in data.caption_template:
        refuse("data.caption_template", data.caption_template, "has no {} for the caption; choose one that has, such as 'a photo of {}'")
    if not 0 <= data.max_bad_share <= 1:
        refuse("data.max_bad_share", data.max_bad_share, "a share of the samples: choose a number in 0 to 1")
    if data.source == "flickr" and data.root is None:
        refuse("data.root", None, "source flickr needs the folder that holds Images/ and captions.txt, such as data.root=flickr8k")


@cache
def _sources() -> dict[str, Path]:
    """The files under data_modules/sources by name."""
    found = find_spec("data_modules")
    assert found is not None
    assert found.origin is not None
    return {path.stem: path for path in sorted((Path(found.origin).parent / "sources").glob("[!_]*.py"))}


@cache
def options_written(name: str) -> tuple[str, ...] | None:
    """The arguments of a source's ``open_here`` beside those that all have, as they are written; None where they are not written there."""
    for node in ast.parse(_sources()[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "open_here" and node.args.kwarg is None:
            every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            return tuple(argument.arg for argument in every if argument.arg not in COMMON)
    return None
