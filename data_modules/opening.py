"""Opening by name: a source or an image set is the file of that name, or what an installed package
adds under it.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gestalt.support.names import nearest
from gestalt.support.plugins import Registry, Row

COMMON = ("root", "size", "seed", "limit", "crops")
"""Arguments of ``open_source``, which are not options; a source's ``open_here`` takes those that it
uses.
"""


def files_of(group: str) -> dict[str, Path]:
    """Return the files of ``sources`` or ``image_sets`` by name."""
    folder = Path(__file__).parent / group
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def modules_of(group: str) -> Registry[Any]:
    """Return the modules of ``sources`` or ``image_sets``, those of installed packages too."""
    return Registry(
        group, [Row(name, target=f"{__package__}.{group}.{name}") for name in files_of(group)]
    )


def find_opener(
    group: str, name: str, *, kind: str, common: tuple[str, ...], options: dict[str, object]
) -> Callable[..., Any]:
    """Return the function ``open_here`` of a source or an image set, after checking ``options``
    against its keywords.

    Args:
        group: ``sources`` or ``image_sets``.
        name: file in that folder, or name that a package adds.
        kind: noun for messages, such as "data source".
        common: keywords that are not options.
        options: the given options.

    Raises:
        ValueError: no such name, or an option that it does not take; the message lists the choices
            and names the nearest.
    """
    modules = modules_of(group)
    if name not in modules:
        raise ValueError(f"{kind} {name!r} is unknown; {nearest(name, modules)}")
    opener: Callable[..., Any] = modules[name].open_here
    taken = own_options(opener, common=common)
    for key in options:
        if key not in taken:
            raise ValueError(
                f"{kind} {name!r} takes no option {key!r}; "
                f"{nearest(key, taken) if taken else 'it takes none'}"
            )
    return opener


def own_options(opener: Callable[..., Any], *, common: tuple[str, ...]) -> list[str]:
    """Return the keywords of an opener besides those in ``common``."""
    return [key for key in inspect.signature(opener).parameters if key not in common]
