"""The columns of images and of captions among those of a table."""

from collections.abc import Iterable, Sequence

from gestalt.data_modules.pixels.bad_samples import printable
from gestalt.support.names import nearest

IMAGES = ("image", "jpg", "png", "webp", "image_bytes", "img")
CAPTIONS = ("caption", "captions", "text", "txt", "sentences")
"""Common names of both columns."""


def find_columns(
    columns: list[str],
    chosen: Sequence[str | None],
    *,
    where: str,
    usual: Sequence[str] = IMAGES,
) -> list[str]:
    """Return the columns of images and of captions: each the configured one, or the only one with a
    usual name; if none has it exactly, blanks around column names are ignored.

    Args:
        columns: all columns of the table.
        chosen: the configured columns of images and of captions; None to search for a usual name.
        where: file or data set, for messages.
        usual: names to search for images.

    Raises:
        ValueError: no such column, several with a usual name, or several of one name.
    """
    found = []
    keys = "data.options.image_column", "data.caption"
    for key, name, names in zip(keys, chosen, (usual, CAPTIONS), strict=True):
        wanted = names if name is None else (name,)
        matches = [column for column in columns if column in wanted]
        matches = matches or [column for column in columns if column.strip() in wanted]
        if len(matches) != 1:
            problem = (
                f"several candidate columns ({_listed(matches)}); rename all but the right one, or"
                if matches
                else f"no column called {' or '.join(wanted)};"
            )
            line = f"{key}={name or 'null'}: {where} has {problem} choose one of {_listed(columns)}"
            raise ValueError(printable(line))
        found += matches
    return found


def check_columns(names: Iterable[str], columns: list[str], *, where: str) -> None:
    """Check that a table has each of these columns, and only once.

    Raises:
        ValueError: names the column and the file.
    """
    for name in names:
        if columns.count(name) > 1:
            raise ValueError(
                f"{where} has several columns called {name}; rename all but the right one"
            )
        if name not in columns:
            raise ValueError(f"{where} has no column called {name}; {nearest(name, columns)}")


def _listed(columns: list[str]) -> str:
    """Return names for a message, in quotes where blanks could not be seen."""
    return ", ".join(
        column if column and column == column.strip() else f'"{column}"' for column in columns
    )
