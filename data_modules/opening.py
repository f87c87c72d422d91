"""Opening by name: a source or an image set is the file of that name, or what an installed package
adds under it.
"""

import inspect
from collections.abc import Callable
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
