"""CSV or TSV with a header, plain or gz, read as bytes.  Each error is one line with the file's
name.

Torch is not imported, so that an unreadable table is refused at once.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.columns import find_columns

PATHS = ("image", "path", "filepath", "file", "file_name", "filename", "image_path")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
READ_ERRORS = OSError, EOFError, zlib.error
"""Errors of reading a damaged file; a gz file that is cut short raises an EOFError."""

MAX_FIELD = 2**24
"""Largest number of bytes of a field; a longer one is a quote that is not closed."""

MAX_RATIO, SAFE_BYTES = 100, 2**28
"""A gz table may unpack to ``MAX_RATIO`` times its size, or to ``SAFE_BYTES`` if that is more.
Text packs to about a third; a file made to fill the memory packs to a thousandth.
"""


class BoundedGzip(gzip.GzipFile):
    """The unpacked bytes of a table, up to a bound.

    Raises:
        ValueError: the table is larger than the bound.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._most = max(MAX_RATIO * path.stat().st_size, SAFE_BYTES)

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes up to a size."""
        self._check_bound()
        return super().read(size)

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes."""
        self._check_bound()
        return super().read1(size)

    def _check_bound(self) -> None:
        if self.tell() > self._most:
            path, most = Path(self.name), self._most
            raise ValueError(
                f"table: {path} unpacks to more than {most / 2**20:,.0f} MiB, like a file made to "
                f"fill the memory; if that is right, run `gunzip -k {path}` and name "
                f"{path.with_suffix('')}"
            )


def open_bytes(path: Path, *, packed: bool) -> Any:
    """Open a table after a byte order mark."""
    file: Any = BoundedGzip(path) if packed else path.open("rb")
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)
    return file


def open_text(path: Path, *, packed: bool, encoding: str) -> io.TextIOWrapper:
    """Open a table as text, after a byte order mark, with its line ends as they are."""
    file = open_bytes(path, packed=packed)
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def read_rows(
    path: Path, delimiter: str, *, where: str, packed: bool, quoted: bool = True, encoding: str
) -> Iterator[list[str]]:
    """Yield the rows of a CSV or TSV, the header first, without empty lines; an empty list in place
    of a row whose number of fields differs from the header's.

    Args:
        path: the file.
        delimiter: character between fields.
        where: its name, for messages.
        packed: True for a gz file.
        quoted: True if fields may stand in double quotes.
        encoding: encoding of the text.

    Raises:
        ValueError: it cannot be read, or a quote is not closed; names the line where the row
            begins.
    """
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    csv.field_size_limit(MAX_FIELD)
    start, fields = 1, 0
    try:
        with open_text(path, packed=packed, encoding=encoding) as text:
            rows = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
            for row in rows:
                fields = fields or len(row)
                if row:
                    yield row if len(row) == fields else []
                start = rows.line_num + 1
    except csv.Error as error:
        mend = "close it, double it within a field, or, for source table, set"
        raise ValueError(
            f"{where}, line {start}: a double quote is not closed, or a field is too long "
            f"({error}); {mend} data.options.quoted=false"
        ) from error
    except READ_ERRORS as error:
        raise ValueError(f"{where} cannot be read: {error}") from error


@dataclass
class TableFile:
    """A table whose header is read.

    Attributes:
        root: path of the table, ``data.root``.
        columns: the configured columns of image files and of captions; None to search for a usual
            name.
        images: folder that file names are relative to; None for the table's folder.
        separator: character between fields; None to choose it by the file's ending.
        quoted: True if fields may stand in double quotes.
        path, folder, delimiter: the table, folder and character that these mean.
        names: names of all columns.
        chosen: names of the columns of image files and of captions.

    Raises:
        ValueError: no root, no such file, no separator for its ending, no image folder, a table
            that cannot be read, has another encoding or separator, or lacks a column.
    """

    root: str | None
    columns: Sequence[str | None]
    images: str | None = None
    separator: str | None = None
    quoted: bool = True

    def __post_init__(self) -> None:
        if self.root is None:
            raise ValueError(
                "table needs data.root: a CSV or TSV file with a header, and columns of image "
                "files and captions"
            )
        self.path, separator = Path(self.root), self.separator
        endings = [ending for ending in self.path.suffixes if ending in SEPARATORS]
        if separator is None and not endings:
            raise ValueError(
                f"table: {self.path} ends neither in .csv nor in .tsv; choose "
                "data.options.separator"
            )
        if separator is not None and (
            len(separator) != 1 or not separator.isascii() or separator in '"\r\n'
        ):
            raise ValueError(
                f"data.options.separator={separator!r}: choose one character of ASCII, such as a "
                "comma"
            )
        self.delimiter = separator or SEPARATORS[endings[-1]]
        self.folder = self.path.parent if self.images is None else Path(self.images)
        if not self.folder.is_dir():
            raise ValueError(f"data.options.images={self.folder}: no such folder")
        if not os.path.isfile(self.path):  # False for a name that is too long, too
            raise ValueError(
                f"table: no file {self.path}; data.root is a CSV or TSV file with a header"
            )
        header = next(self.rows(), [])
        self.names = [name.encode("latin-1").decode("utf-8", "backslashreplace") for name in header]
        line, where = "".join(header), f"{self.path}, line 1"
        if line.startswith(("\xff\xfe", "\xfe\xff")):
            raise ValueError(f"table: {where}: its text is UTF-16; save it as UTF-8")
        if line.startswith("sep="):
            raise ValueError(f"table: {where}: {line!r} is no header; delete it")
        other = next((letter for letter in ";\t,|" if letter in line), None)
        if other is not None and len(header) == 1:
            raise ValueError(
                f"table: {self.path} has one column, {self.names[0]!r}; choose "
                f"'data.options.separator={json.dumps(other)}'"
            )
        where += ", which must name the columns,"
        self.chosen = find_columns(self.names, self.columns, where=where, usual=PATHS)

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows, the header first, and an empty list in place of a broken row.

        A letter of a field is a byte of the file, since the file is decoded with Latin-1.
        """
        return read_rows(
            self.path,
            self.delimiter,
            where=f"table: {self.path}",
            packed=self.path.suffix == ".gz",
            quoted=self.quoted,
            encoding="latin-1",
        )
