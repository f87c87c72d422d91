"""Opening by name: a source or an image set is the file of that name, or what an installed package
adds under it.
"""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from gestalt.support.names import nearest
from gestalt.support.plugins import added_to, load


def find_opener(
    package: str, name: str, *, kind: str, common: tuple[str, ...], options: dict[str, object]
) -> Callable[..., Any]:
    """Return the function ``open_here`` of a source or an image set, after checking ``options``
    against its keywords.

    Args:
        package: module name of the folder of built-in files; its last part is the registry that
            installed packages add to.
        name: file in that folder, or name that a package adds.
        kind: noun for messages, such as "data source".
        common: keywords that are not options.
        options: the given options.

    Raises:
        ValueError: no such name, or an option that it does not take; the message lists the choices
            and names the nearest.
    """
    files = sorted(module.name for module in pkgutil.iter_modules(import_module(package).__path__))
    registry = package.rpartition(".")[2]
    added = added_to(registry, tuple(files))
    if name not in files and name not in added:
        raise ValueError(f"{kind} {name!r} is unknown; {nearest(name, [*files, *added])}")
    module = import_module(f"{package}.{name}") if name in files else load(registry, added[name])
    opener: Callable[..., Any] = module.open_here
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
