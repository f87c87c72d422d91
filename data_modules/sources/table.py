"""A CSV or TSV table of image files and captions, with a header, plain or gz.  All rows of an image
are one pair with several captions.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stores import Store, check_inside
from gestalt.data_modules.corpora.table_files import TableFile
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.pixels.photographs import read_bytes
from gestalt.support.files import file_hash, short_digest

CHUNK = 65_536
"""Number of rows that are copied into arrow's memory at a time."""


class TableRows(Store):
    """Images of a table with their captions, in the order of first appearance; rows without an
    image come last.

    Names and captions stay in arrow buffers: eleven million take as many bytes as the file, and
    forked processes share them.
    """

    def __init__(self, table: TableFile, *, outside: bool) -> None:
        """Read the table.

        Raises:
            ValueError: it cannot be read, has no row, or names an image outside of the folder and
                ``outside`` is False.
        """
        self._table = table
        bad: list[tuple[str, int]] = []
        places = [table.names.index(name) for name in table.chosen]
        chunks = [[pa.array([], pa.binary())] for _ in places]
        numbered = enumerate(islice(table.rows(), 1, None), start=1)
        while some := list(islice(numbered, CHUNK)):
            whole = []
            for number, row in some:
                if not row:
                    bad.append(("broken_row", number))
                elif not row[places[0]]:
                    bad.append(("missing_image", number))
                else:
                    whole.append(row)
            for column, chunk in zip(places, chunks, strict=True):
                fields = [row[column].encode("latin-1") for row in whole]
                chunk.append(pa.array(fields, pa.binary()))
        files, self._captions = (pa.chunked_array(chunk).combine_chunks() for chunk in chunks)
        self._bad = sorted(bad)
        if not len(files) and not self._bad:
            raise ValueError(f"table: {table.path} has a header and no row")
        coded = files.dictionary_encode()
        self._names = coded.dictionary
        if not outside:
            names = (name.decode("utf-8", "surrogateescape") for name in self._names.to_pylist())
            check_inside(names, table=table.path, folder=table.folder)
        codes = np.asarray(coded.indices)
        self._rows = np.argsort(codes, kind="stable")
        self._ends = np.cumsum(np.bincount(codes, minlength=len(self._names)))

    def __len__(self) -> int:
        return len(self._names) + len(self._bad)

    def digest(self) -> str:
        """Return the digest of the table's bytes and its reading options, without the image
        files.
        """
        table = self._table
        read = [file_hash(table.path), *table.chosen, table.delimiter, str(table.quoted)]
        return short_digest("\0".join(read))

    def join_values(self, name: str) -> Iterator[Any]:
        """Yield ``path``, the names of images as the table has them, or ``key``, those without
        their folders.
        """
        for content in self._names.to_pylist():
            path = content.decode("utf-8", "surrogateescape")
            yield {"path": path, "key": Path(path).name}.get(name)
        yield from [None] * len(self._bad)

    def read(self, index: int) -> StoredPair:
        """Read an image and its captions.

        Raises:
            BadSample: a broken row, or a file that is missing or unreadable.
        """
        if index >= len(self._names):
            reason, number = self._bad[index - len(self._names)]
            raise BadSample(reason, where=str(self._table.path), key=f"row {number}")
        first = self._ends[index - 1] if index else 0
        captions = self._captions.take(self._rows[first : self._ends[index]]).to_pylist()
        # a file name may be any bytes
        name = self._names[index].as_py().decode("utf-8", "surrogateescape")
        path = self._table.folder / name
        where, key = str(path.parent), path.name
        with bad_sample_at(where, key):
            texts = [text for text in captions if text]
            return StoredPair(where, key, read_bytes(path), texts or captions)


def open_here(
    *,
    root: str | None,
    captions: CaptionRule,
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
        ValueError: no such file or folder, no separator for its ending, a table that cannot be
            read, lacks a column or has no row, or a refused file name.
    """
    table = TableFile(
        root,
        [image_column, captions.column],
        images=images,
        separator=separator,
        quoted=quoted,
    )
    return TableRows(table, outside=outside)
