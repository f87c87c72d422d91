"""Find the image and caption columns of a table."""

from collections.abc import Sequence

from data_modules.corpora.bad_samples import printable

IMAGES = ("image", "jpg", "png", "webp", "image_bytes", "img")
CAPTIONS = ("caption", "captions", "text", "txt", "sentences")
"""Common names of both columns."""


def find_column(columns: Sequence[str], name: str | None, *, usual: Sequence[str], key: str, where: str) -> str:
    """Return the named column, or the only one with a usual name.

    Args:
        columns: all columns of the table.
        name: the configured column; None to search for a usual name.
        usual: names to search for.
        key: configuration key of the name, for the message.
        where: file or data set, for the message.

    Raises:
        ValueError: no such column, or none or several with a usual name.
    """
    if name is not None:
        if name not in columns:
            raise ValueError(printable(f"{key}={name}: {where} has no such column; choose one of {', '.join(columns)}"))
        return name
    matches = [column for column in usual if column in columns]
    if len(matches) != 1:
        problem = f"several candidate columns ({', '.join(matches)})" if matches else f"no column called {' or '.join(usual)}"
        raise ValueError(printable(f"{where} has {problem}; choose one by {key}=NAME of {', '.join(columns)}"))
    return matches[0]
