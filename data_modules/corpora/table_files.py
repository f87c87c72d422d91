"""Files of tables: CSV or TSV with a header, plain or gz, read as bytes; each error is one line
with the file's name.

Torch is not imported, so that an unreadable table is refused at once.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.data_modules.corpora.columns import find_columns

PATHS = ("image", "path", "filepath", "file", "file_name", "filename", "image_path")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = 2**24
"""Largest number of bytes of a field; a longer one is a quote that is not closed."""

LARGEST_RATIO, SAFE_BYTES = 100, 2**28
"""A gz table may unpack to ``LARGEST_RATIO`` times its size, or to ``SAFE_BYTES`` if that is more.
Text packs to about a third; a file made to fill the memory packs to a thousandth.
"""


class Layout(NamedTuple):
    """The path of a table and the rules by which it is read.

    Attributes:
        path: the table.
        separator: character between fields.
        quoted: True if fields may stand in double quotes.
        images: folder that file names are relative to.
    """

    path: Path
    separator: str
    quoted: bool
    images: Path


def find_table(
    root: str | None,
    *,
    images: str | None = None,
    separator: str | None = None,
    quoted: bool = True,
) -> Layout:
    """Return the table that ``data.root`` and the options of source ``table`` name.

    Args:
        root: the table.
        images: folder that file names are relative to; None for the table's folder.
        separator: character between fields; None to choose it by the file's ending.
        quoted: True if fields may stand in double quotes.

    Raises:
        ValueError: no root, no such file, no separator for its ending, or no image folder.
    """
    if root is None:
        raise ValueError(
            "table needs data.root: a CSV or TSV file with a header, and columns of image files "
            "and captions"
        )
    path = Path(root)
    endings = [ending for ending in path.suffixes if ending in SEPARATORS]
    if separator is None and not endings:
        raise ValueError(
            f"table: {path} ends neither in .csv nor in .tsv; choose data.options.separator"
        )
    if separator is not None and (
        len(separator) != 1 or not separator.isascii() or separator in '"\r\n'
    ):
        raise ValueError(
            f"data.options.separator={separator!r}: choose one character of ASCII, such as a comma"
        )
    folder = path.parent if images is None else Path(images)
    if not folder.is_dir():
        raise ValueError(f"data.options.images={folder}: no such folder")
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(f"table: no file {path}; data.root is a CSV or TSV file with a header")
    return Layout(path, separator or SEPARATORS[endings[-1]], quoted, folder)


def read_header(
    rows: Iterator[list[str]], layout: Layout, chosen: Sequence[str | None]
) -> tuple[list[str], list[str]]:
    """Read the first of a table's rows.  Returns the names of all columns, and of those of image
    files and of captions, of which ``chosen`` has the configured ones.

    Raises:
        ValueError: as ``read_rows`` and ``find_columns``.
    """
    header = next(rows, [])
    names = [name.encode("latin-1").decode("utf-8", "backslashreplace") for name in header]
    line = "".join(header)
    if line.startswith(("\xff\xfe", "\xfe\xff")):
        raise ValueError(f"table: {layout.path}, line 1: its text is UTF-16; save it as UTF-8")
    if line.startswith("sep="):
        raise ValueError(f"table: {layout.path}, line 1: {line!r} is no header; delete it")
    other = next((letter for letter in ";\t,|" if letter in line), None)
    if other is not None and len(names) == 1:
        raise ValueError(
            f"table: {layout.path} has one column, {names[0]!r}; choose "
            f"'data.options.separator={json.dumps(other)}'"
        )
    where = f"{layout.path}, line 1, which must name the columns,"
    return names, find_columns(names, chosen, where=where, usual=PATHS)


def read_rows(layout: Layout) -> Iterator[list[str]]:
    """Yield the rows of a table, the header first, without empty lines; a letter of a field is a
    byte of the file, as in Latin-1.

    Raises:
        ValueError: it cannot be read, or a quote is not closed; names the line where the row
            begins.
    """
    quoting: Any = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    csv.field_size_limit(LONGEST_FIELD)
    start = 1
    try:
        with _opened(layout.path) as file:
            rows = csv.reader(file, delimiter=layout.separator, quoting=quoting, strict=True)
            for row in rows:
                if row:
                    yield row
                start = rows.line_num + 1
    except csv.Error as error:
        mend = "close it, double it within a field, or set data.options.quoted=false"
        raise ValueError(
            f"table: {layout.path}, line {start}: a double quote is not closed, or a field is too "
            f"long ({error}); {mend}"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"table: {layout.path} cannot be read: {error}") from error


class BoundedGzip(gzip.GzipFile):
    """The unpacked bytes of a table, up to a bound."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self._most = max(LARGEST_RATIO * path.stat().st_size, SAFE_BYTES)

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes.

        Raises:
            ValueError: the table is larger than the bound.
        """
        if self.tell() > self._most:
            raise ValueError(
                f"table: {self._path} unpacks to more than {self._most / 2**20:,.0f} MiB, like a "
                f"file made to fill the memory; if that is right, run `gunzip -k {self._path}` and "
                f"name {self._path.with_suffix('')}"
            )
        return super().read1(size)


def _opened(path: Path) -> io.TextIOWrapper:
    """Open a table behind its byte order mark, if it has one."""
    file: Any = BoundedGzip(path) if path.suffix == ".gz" else path.open("rb")
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)
    return io.TextIOWrapper(file, encoding="latin-1", newline="")
