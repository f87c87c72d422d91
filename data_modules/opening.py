"""Opening by name: a source or an image set is the file of that name, and adding one is adding a file."""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from gestalt.support.names import nearest


def find_opener(package: str, name: str, *, kind: str, common: tuple[str, ...], options: dict[str, object]) -> Callable[..., Any]:
    """The function ``open_here`` of the file ``name`` in ``package``, once ``options`` are known to be its own keywords.

    Keywords in ``common`` are those that every file there takes, and no options.

    Raises:
        ValueError: no such file, or an option that it does not take; the message lists what there is and names the nearest.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(import_module(package).__path__))
    if name not in known:
        raise ValueError(f"{kind} {name!r} is unknown; {nearest(name, known)}")
    opener: Callable[..., Any] = import_module(f"{package}.{name}").open_here
    taken = own_options(opener, common=common)
    for key in options:
        if key not in taken:
            raise ValueError(f"{kind} {name!r} takes no option {key!r}; {nearest(key, taken) if taken else 'it takes none'}")
    return opener


def own_options(opener: Callable[..., Any], *, common: tuple[str, ...]) -> list[str]:
    """The keywords of an opener beside those in ``common``."""
    return [key for key in inspect.signature(opener).parameters if key not in common]
