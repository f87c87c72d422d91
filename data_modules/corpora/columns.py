"""Columns: which one of a table holds the images and which the captions."""

from collections.abc import Sequence

IMAGES = ("image", "jpg", "png", "webp", "image_bytes", "img")
CAPTIONS = ("caption", "captions", "text", "txt", "sentences")
"""What they are usually called."""


def find_column(columns: Sequence[str], asked: str | None, *, usual: Sequence[str], key: str, where: str) -> str:
    """The column that was asked for, or the one with a usual name.

    Args:
        columns: those that there are.
        asked: name of one; None for the usual one.
        usual: names to look for.
        key: of the configuration, that names one.
        where: the file or data set, for the message.

    Raises:
        ValueError: there is no such column, or none or several with a usual name.
    """
    if asked is not None:
        if asked not in columns:
            raise ValueError(f"{key}={asked}: {where} has no such column; it has {', '.join(columns)}")
        return asked
    found = [name for name in usual if name in columns]
    if len(found) != 1:
        what = f"several columns that may be meant ({', '.join(found)})" if found else f"no column called {' or '.join(usual)}"
        raise ValueError(f"{where} has {what}; choose one by {key}=NAME of {', '.join(columns)}")
    return found[0]
