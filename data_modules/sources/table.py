"""A CSV or TSV table of image files and captions, with a header, plain or gz.  All rows of an image are one pair with several captions."""

import codecs
import csv
import gzip
import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.columns import CAPTIONS, find_column
from data_modules.corpora.stored_pairs import Store, check_inside, read_stored
from data_modules.digest import short_digest
from data_modules.sources import Stored
from gestalt.support.files import file_hash

PATHS = ("image", "path", "filepath", "file", "file_name", "filename", "image_path")
UTF8 = "utf8"
SEPARATORS = {".csv": ",", ".tsv": "\t"}


class TableRows(Store):
    """Images of a table with their captions, in the order of first appearance; rows without an image come last.

    Names and captions stay in arrow buffers: eleven million take as many bytes as the file, and forked processes share them.
    """

    def __init__(
        self,
        path: Path,
        *,
        images: Path,
        separator: str,
        quoted: bool,
        image_column: str | None,
        caption_column: str | None,
        outside: bool = True,
    ) -> None:
        """Read the table.

        Raises:
            ValueError: it cannot be read, lacks a column, has no row, or names an image outside of the folder and ``outside`` is False.
        """
        self._path = path
        self._images = images
        table, broken = _read(path, separator=separator, quoted=quoted)
        column = find_column(table.column_names, image_column, usual=PATHS, key="data.options.image_column", where=str(path))
        caption = find_column(table.column_names, caption_column, usual=CAPTIONS, key="data.caption", where=str(path))
        for name in (column, caption):
            if table.column_names.count(name) > 1:
                raise ValueError(f"table: {path} has {table.column_names.count(name)} columns called {name}; rename all but the right one")
        if quoted and (broken or any(_has_line_ends(table.column(position)) for position in range(table.num_columns))):
            _check_quotes(path, separator=separator)
        self._captions = table.column(caption).combine_chunks()
        names = table.column(column).combine_chunks()
        if not len(names) and not broken:
            raise ValueError(f"table: {path} has a header and no row")
        if not outside:
            check_inside((name.decode("utf-8", "surrogateescape") for name in names.to_pylist()), table=path, folder=images)
        empty = np.asarray(pa_compute.equal(pa_compute.binary_length(names), 0))
        self._broken = [("broken_row", f"row {row}") for row in broken] + [
            ("missing_image", f"row {row + 1}") for row in np.flatnonzero(empty)
        ]
        filled = np.flatnonzero(~empty)
        coded = names.take(pa.array(filled)).dictionary_encode()
        codes = np.asarray(coded.indices)
        self._names = coded.dictionary
        self._rows = filled[np.argsort(codes, kind="stable")]
        self._ends = np.cumsum(np.bincount(codes, minlength=len(self._names)))
        self._columns = f"{column}\0{caption}\0{separator}\0{quoted}"

    def __len__(self) -> int:
        return len(self._names) + len(self._broken)

    def digest(self) -> str:
        """Return the digest of the table's bytes and its reading options, without the image files."""
        content = file_hash(self._path)
        return short_digest(f"{content}\0{self._columns}")

    def stored(self, index: int) -> Stored:
        """Read an image and its captions."""
        if index >= len(self._names):
            reason, key = self._broken[index - len(self._names)]
            raise BadSample(reason, where=str(self._path), key=key)
        first = int(self._ends[index - 1]) if index else 0
        captions = [self._captions[int(row)].as_py() for row in self._rows[first : int(self._ends[index])]]
        name = self._names[index].as_py().decode("utf-8", "surrogateescape")  # a file name may be any bytes
        return read_stored(self._images / name, captions=[text for text in captions if text] or captions)


def _read(path: Path, *, separator: str, quoted: bool) -> tuple[pa.Table, list[int]]:
    """Return all columns as bytes, and the numbers, from 1, of rows whose number of fields differs from the header's."""
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(f"table: no file {path}; data.root is a CSV or TSV file with a header")
    broken: list[int] = []
    encoding = _encoding(path)

    def skip(row: pa_csv.InvalidRow) -> str:
        broken.append(row.number - 1)
        return "skip"

    parse = pa_csv.ParseOptions(
        delimiter=separator, quote_char='"' if quoted else False, newlines_in_values=quoted, invalid_row_handler=skip
    )
    try:
        read = pa_csv.ReadOptions(use_threads=False, encoding=encoding)  # rows have no numbers with threads
        with _opened(path) as file:  # by file object: arrow refuses a path that is not UTF-8
            header = pa_csv.open_csv(file, parse_options=parse, read_options=read).schema.names
        broken.clear()
        convert = pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.binary()), strings_can_be_null=False)
        with _opened(path) as file:
            table = pa_csv.read_csv(file, parse_options=parse, read_options=read, convert_options=convert)
        return (table if encoding == UTF8 else _as_stored(table)), broken
    except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeDecodeError) as error:
        if quoted and not isinstance(error, OSError | EOFError | zlib.error):
            _check_quotes(path, separator=separator)
        raise ValueError(f"table: {path} cannot be read: {' '.join(str(error).split())}") from error


def _encoding(path: Path) -> str:
    """Return the encoding to read a table in: Latin-1 unless it is UTF-8, since arrow drops a broken row of other bytes without a word."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        with _opened(path) as file:
            while content := file.read(2**20):
                decoder.decode(content)
    except UnicodeDecodeError:
        return "latin-1"
    except (OSError, EOFError, zlib.error):
        return UTF8  # reported by the reader
    return UTF8


def _as_stored(table: pa.Table) -> pa.Table:
    """Return a table that was read as Latin-1 with the bytes and names of its file."""
    columns = [[text.decode().encode("latin-1") for text in column.to_pylist()] for column in table.columns]
    names = [name.encode("latin-1").decode(UTF8, "backslashreplace") for name in table.column_names]
    return pa.Table.from_arrays([pa.array(column, pa.binary()) for column in columns], names=names)


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _has_line_ends(column: pa.ChunkedArray) -> bool:
    return bool(pa_compute.any(pa_compute.match_substring(column, b"\n")).as_py())


def _check_quotes(path: Path, *, separator: str) -> None:
    """Check that every quoted field is closed: an open one swallows the lines after it, up to the next quote.

    Raises:
        ValueError: names the line where the field's row begins.
    """
    with io.TextIOWrapper(_opened(path), encoding="latin-1", newline="") as file:
        rows, start = csv.reader(file, delimiter=separator, strict=True), 1
        try:
            for _ in rows:
                start = rows.line_num + 1
        except csv.Error as error:
            mend = "close it, double it within a field, or set data.options.quoted=false"
            raise ValueError(
                f"table: {path}, line {start}: a double quote is not closed, or a field is too long ({error}); {mend}"
            ) from error


def open_here(
    *,
    root: str | None,
    captions: CaptionRule = ANY_CAPTION,
    images: str | None = None,
    separator: str | None = None,
    quoted: bool = True,
    image_column: str | None = None,
    outside: bool = True,
) -> TableRows:
    """Open a table.

    Args:
        root: the table.
        captions: selects the caption.
        images: folder that file names are relative to; None for the table's folder.
        separator: character between fields; None to choose it by the file's ending.
        quoted: True if fields may stand in double quotes.
        image_column: column of file names; None to search for a usual name.
        outside: False to refuse file names that lead out of the folder of images.

    Raises:
        ValueError: no root, no separator for the file's ending, no image folder, or as ``TableRows``.
    """
    path, separator, folder = _check(root, images=images, separator=separator)
    columns: dict[str, str | None] = {"image_column": image_column, "caption_column": captions.column}
    return TableRows(path, images=folder, separator=separator, quoted=quoted, outside=outside, **columns)


def _check(root: str | None, *, images: str | None, separator: str | None) -> tuple[Path, str, Path]:
    """Return the table, its separator and the folder of images."""
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
    return path, separator or SEPARATORS[endings[-1]], folder
