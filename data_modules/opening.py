"""Opening by name: a source or an image set is the file of that name, or what an installed package
adds under it.
"""

import ast
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from gestalt.support.names import nearest
from gestalt.support.plugins import OpenRegistry, Row

COMMON = ("root", "size", "seed", "limit", "crops", "augmentation")
"""Arguments of ``open_source``, which are not options; a source's ``open_here`` takes those that it
uses.
"""

GROUPS = {
    "sources": ("data source", COMMON),
    "image_sets": ("image set", ("root", "split", "limit", "label_sets")),
}
"""Group of files -> noun for messages, and the keywords of its openers that are not options."""


def files_of(group: str) -> dict[str, Path]:
    """Return the files of ``sources`` or ``image_sets`` by name."""
    files = Path(__file__).parent.glob(f"{group}/[!_]*.py")
    return {path.stem: path for path in sorted(files)}


def modules_of(group: str) -> OpenRegistry[Any]:
    """Return the modules of ``sources`` or ``image_sets``, those of installed packages too."""
    return OpenRegistry(
        group, [Row(name, target=f"{__package__}.{group}.{name}") for name in files_of(group)]
    )


def find_opener(group: str, name: str, options: dict[str, object]) -> Callable[..., Any]:
    """Return the function ``open_here`` of a source or an image set, after checking ``options``
    against its keywords.

    Args:
        group: ``sources`` or ``image_sets``.
        name: file in that folder, or name that a package adds.
        options: the given options.

    Raises:
        ValueError: no such name, or an option that it does not take; the message lists the choices
            and names the nearest.
    """
    modules, (kind, common) = modules_of(group), GROUPS[group]
    if name not in modules:
        raise ValueError(f"{kind} {name!r} is unknown; {nearest(name, modules)}")
    found = modules[name]
    opener: Callable[..., Any] = getattr(found, "open_here", found)
    taken = [key for key in inspect.signature(opener).parameters if key not in common]
    for key in options:
        if key not in taken:
            raise ValueError(
                f"{kind} {name!r} takes no option {key!r}; "
                f"{nearest(key, taken) if taken else 'it takes none'}"
            )
    return opener


def options_written(name: str) -> dict[str, str] | None:
    """Return the arguments of a source's ``open_here`` besides :data:`COMMON`, with their types;
    None if they are not known.
    """
    written = _arguments_written(name)
    return written and {arg: kind for arg, kind in written.items() if arg not in COMMON}


def may_draw_images(name: str) -> bool:
    """Return True if a source's images may depend on the seed: if its ``open_here`` takes it, or is
    not known.
    """
    written = _arguments_written(name)
    return written is None or "seed" in written


@cache
def _arguments_written(name: str) -> dict[str, str] | None:
    """Return the arguments of a source's ``open_here``, with their types as its file writes them.

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
            return {
                each.arg: ast.unparse(each.annotation)
                for each in node.args.kwonlyargs
                if each.annotation
            }
    return None
