"""Caveats: warnings of what a result does not show by itself."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Caveat(UserWarning):
    """A fact about a model or its labels without which a result misleads."""


@contextmanager
def print_caveats(name: str, caveats: list[str]) -> Iterator[None]:
    """Print each caveat of the block once, after a name, on standard error, and add it to
    ``caveats``; other warnings are shown as ever.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Caveat)
        yield
    for warning in caught:
        text = str(warning.message)
        if not issubclass(warning.category, Caveat):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif text not in caveats:
            caveats.append(text)
            tqdm.write(f"gestalt: {name}: {text}", file=sys.stderr)
