"""Find the image and caption columns of a table."""

from collections.abc import Sequence

from gestalt.data_modules.corpora.bad_samples import printable

IMAGES = ("image", "jpg", "png", "webp", "image_bytes", "img")
CAPTIONS = ("caption", "captions", "text", "txt", "sentences")
"""Common names of both columns."""


def find_column(
    columns: Sequence[str], name: str | None, *, usual: Sequence[str], key: str, where: str
) -> str:
    """Return the named column, or the only one with a usual name; if none has it exactly, blanks
    around column names are ignored.

    Args:
        columns: all columns of the table.
        name: the configured column; None to search for a usual name.
        usual: names to search for.
        key: configuration key of the name, for the message.
        where: file or data set, for the message.

    Raises:
        ValueError: no such column, or none or several with a usual name.
    """
    wanted = usual if name is None else (name,)
    matches = [column for column in wanted if column in columns]
    matches = matches or list(
        dict.fromkeys(column for column in columns if column.strip() in wanted)
    )
    if len(matches) == 1:
        return matches[0]
    several = f"several candidate columns ({_listed(matches)})"
    if name is None:
        problem = several if matches else f"no column called {' or '.join(usual)}"
        raise ValueError(
            printable(f"{where} has {problem}; choose one by {key}=NAME of {_listed(columns)}")
        )
    if matches:
        raise ValueError(
            printable(f"{key}={name}: {where} has {several}; rename all but the right one")
        )
    raise no_column(columns, name, key=key, where=where)


def no_column(columns: Sequence[str], name: str, *, key: str, where: str) -> ValueError:
    """Return the error for a column that a table does not have."""
    return ValueError(
        printable(f"{key}={name}: {where} has no such column; choose one of {_listed(columns)}")
    )


def _listed(columns: Sequence[str]) -> str:
    """Return names for a message, in quotes where blanks could not be seen."""
    return ", ".join(
        column if column and column == column.strip() else f'"{column}"' for column in columns
    )
