"""Files of tables: CSV or TSV with a header, plain or gz, read as bytes; each error is one line with the file's name.

Torch is not imported, so that an unreadable table is refused at once.
"""

import codecs
import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv

from data_modules.corpora.columns import CAPTIONS, find_column

PATHS = ("image", "path", "filepath", "file", "file_name", "filename", "image_path")
UTF8, LATIN = "utf8", "latin-1"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
BLOCK = 2**20

MOST_TIMES, SURE = 100, 256 * 2**20
"""Largest ratio of unpacked to packed size of a gz table, and bytes allowed at any ratio: text packs to 1/3, a bomb to 1/1000."""


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


def find_table(root: str | None, *, images: str | None = None, separator: str | None = None, quoted: bool = True) -> Layout:
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
        raise ValueError("table needs data.root: a CSV or TSV file with a header, and columns of image files and captions")
    path = Path(root)
    endings = [ending for ending in path.suffixes if ending in SEPARATORS]
    if separator is None and not endings:
        raise ValueError(f"table: {path} ends neither in .csv nor in .tsv; choose data.options.separator")
    if separator is not None and (len(separator) != 1 or not separator.isascii() or separator in '"\r\n'):
        raise ValueError(f"data.options.separator={separator!r}: choose one character of ASCII, such as a comma")
    folder = path.parent if images is None else Path(images)
    if not folder.is_dir():
        raise ValueError(f"data.options.images={folder}: no such folder")
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(f"table: no file {path}; data.root is a CSV or TSV file with a header")
    return Layout(path, separator or SEPARATORS[endings[-1]], quoted, folder)


def find_columns(names: list[str], *, where: Path, image: str | None, caption: str | None) -> tuple[str, str]:
    """Return the columns of image files and of captions, each the configured one or the only one with a usual name.

    Raises:
        ValueError: no such column, none or several with a usual name, or several of one name.
    """
    columns = (
        find_column(names, image, usual=PATHS, key="data.options.image_column", where=str(where)),
        find_column(names, caption, usual=CAPTIONS, key="data.caption", where=str(where)),
    )
    for name in columns:
        if names.count(name) > 1:
            raise ValueError(f"table: {where} has {names.count(name)} columns called {name}; rename all but the right one")
    return columns


def check_header(layout: Layout, *, image: str | None, caption: str | None) -> None:
    """Check the columns of a table by its first block.

    Raises:
        ValueError: as ``find_columns``.
    """
    try:
        with opened(layout.path) as file:
            first = file.read(BLOCK)
        encoding = UTF8 if _is_utf8([first]) else LATIN
        names = _header(first, layout, encoding=encoding)
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return  # reported with the line when the rest is read
    names = names if encoding == UTF8 else [_as_stored_name(name) for name in names]
    find_columns(names, where=layout.path, image=image, caption=caption)


def read_table(layout: Layout) -> tuple[pa.Table, list[int]]:
    """Return all columns as bytes, and the numbers, from 1, of rows whose number of fields differs from the header's.

    Raises:
        ValueError: it cannot be read, or unpacks to too much.
    """
    path, broken = layout.path, list[int]()

    def skip(row: pa_csv.InvalidRow) -> str:
        broken.append(row.number - 1)
        return "skip"

    try:
        encoding = _encoding(path)
        with opened(path) as file:  # by file object: arrow refuses a path that is not UTF-8
            header = _header(file.read(BLOCK), layout, encoding=encoding)
        options: Any = {"parse_options": _parse(layout, skip), "read_options": _read(encoding)}
        convert = pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.binary()), strings_can_be_null=False)
        with opened(path) as file:
            table = pa_csv.read_csv(file, convert_options=convert, **options)
        return (table if encoding == UTF8 else _as_stored(table)), broken
    except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeDecodeError) as error:
        if layout.quoted and not isinstance(error, OSError | EOFError | zlib.error):
            check_quotes(layout)
        raise ValueError(f"table: {path} cannot be read: {' '.join(str(error).split())}") from error


def _header(first: bytes, layout: Layout, *, encoding: str) -> list[str]:
    """Return the names of the columns, decoded by ``encoding``, from the first block of a table.

    Arrow reads ahead in a thread.  The block is copied into arrow's memory, because a thread that reads a Python object while the
    interpreter exits, as after a wrong column, aborts the process.
    """
    copy = pa.BufferOutputStream()
    copy.write(first)
    options: Any = {"parse_options": _parse(layout, lambda row: "skip"), "read_options": _read(encoding)}
    with pa_csv.open_csv(pa.BufferReader(copy.getvalue()), **options) as reader:
        return list(reader.schema.names)


def _parse(layout: Layout, skip: Any) -> Any:
    return pa_csv.ParseOptions(
        delimiter=layout.separator,
        quote_char='"' if layout.quoted else False,
        newlines_in_values=layout.quoted,
        invalid_row_handler=skip,
    )


def _read(encoding: str) -> Any:
    return pa_csv.ReadOptions(use_threads=False, encoding=encoding)  # rows have no numbers with threads


def _encoding(path: Path) -> str:
    """Return the encoding to read a table in: Latin-1 unless it is UTF-8, since arrow silently drops a broken row of other bytes."""
    try:
        with opened(path) as file:
            return UTF8 if _is_utf8(iter(partial(file.read, BLOCK), b"")) else LATIN
    except (OSError, EOFError, zlib.error):
        return UTF8  # reported by the reader


def _is_utf8(blocks: Iterable[bytes]) -> bool:
    """True if blocks of bytes are UTF-8; the last may end within a letter."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        for block in blocks:
            decoder.decode(block)
    except UnicodeDecodeError:
        return False
    return True


def _as_stored(table: pa.Table) -> pa.Table:
    """Return a table that was read as Latin-1 with the bytes and names of its file."""
    columns = [[text.decode().encode(LATIN) for text in column.to_pylist()] for column in table.columns]
    return pa.Table.from_arrays([pa.array(column, pa.binary()) for column in columns], names=list(map(_as_stored_name, table.column_names)))


def _as_stored_name(name: str) -> str:
    return name.encode(LATIN).decode(UTF8, "backslashreplace")


def opened(path: Path) -> Any:
    """Open a table for reading; a gz file gives its unpacked bytes, up to a bound."""
    return io.BufferedReader(_Unpacked(path, gzip.open(path)), BLOCK) if path.suffix == ".gz" else path.open("rb")


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a gz file, up to ``MOST_TIMES`` its size: a small file could fill the memory."""

    def __init__(self, path: Path, file: gzip.GzipFile) -> None:
        self._path = path
        self._file = file
        self._most = self._left = max(MOST_TIMES * path.stat().st_size, SURE)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; returns the number of bytes, 0 at the end."""
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            sizes = f"more than {self._most / 2**20:,.0f} MiB from {self._path.stat().st_size / 2**20:,.1f}"
            mend = f"if that is right, run `gunzip -k {self._path}` and name {self._path.with_suffix('')}"
            raise ValueError(f"table: {self._path} unpacks to {sizes}, like a file made to fill the memory; {mend}")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def has_line_ends(table: pa.Table) -> bool:
    """Return True if a field has a line end."""
    return any(pa_compute.any(pa_compute.match_substring(column, b"\n")).as_py() for column in table.columns)


def check_quotes(layout: Layout) -> None:
    """Check that every quoted field is closed: an open one swallows the lines after it, up to the next quote.

    Raises:
        ValueError: names the line where the field's row begins.
    """
    with io.TextIOWrapper(opened(layout.path), encoding=LATIN, newline="") as file:
        rows, start = csv.reader(file, delimiter=layout.separator, strict=True), 1
        try:
            for _ in rows:
                start = rows.line_num + 1
        except csv.Error as error:
            mend = "close it, double it within a field, or set data.options.quoted=false"
            raise ValueError(
                f"table: {layout.path}, line {start}: a double quote is not closed, or a field is too long ({error}); {mend}"
            ) from error
