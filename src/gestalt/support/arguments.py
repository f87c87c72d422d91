"""Checks of the types of arguments of public functions."""

from os import PathLike
from textwrap import shorten
from typing import Any

PATH = (str, PathLike)


def wrong_type(name: str, value: Any, needed: str) -> ValueError:
    """Return the error for an argument of a wrong type.  ``needed`` describes the right type."""
    shown = shorten(repr(value), 80)
    return ValueError(f"{name} is {shown}, of type {type(value).__name__}; give {needed}")


def check_type(name: str, value: Any, kind: Any, needed: str) -> None:
    """Check that an argument is an instance of a type, or of one of several.

    Raises:
        ValueError: the argument has another type.  The message names it and ends with ``needed``.
    """
    if not isinstance(value, kind):
        raise wrong_type(name, value, needed)


def check_words(name: str, values: Any, example: str) -> list[str]:
    """Check that an argument is a sequence of texts, and return it as a list.

    Raises:
        ValueError: the argument is a single string, an element is not a string, or a string has a
            surrogate.  The message names the argument.
    """
    needed = f"a list of texts, such as {example}"
    if isinstance(values, str):
        raise wrong_type(name, values, needed)
    try:
        words = list(values)
    except TypeError as error:
        raise wrong_type(name, values, needed) from error
    for word in words:
        check_type(f"an element of {name}", word, str, needed)
        if not is_unicode(word):
            raise ValueError(
                f"{name}: {word!a} has a surrogate, which is half of a character; give the whole "
                "character"
            )
    return words


def is_unicode(text: str) -> bool:
    """Return False if a text contains a surrogate, which UTF-8 cannot encode."""
    return text == text.encode(errors="ignore").decode()


def check_dict(name: str, values: Any, needed: str) -> dict[str, Any]:
    """Return a mapping, or pairs of a name and a value, as a dict.  None gives an empty dict.

    Raises:
        ValueError: the argument is neither.  The message names it and ends with ``needed``.
    """
    try:
        return dict(values or {})
    except (TypeError, ValueError) as error:
        raise wrong_type(name, values, needed) from error
