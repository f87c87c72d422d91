"""A CSV or TSV table of image files and captions, with a header, plain or gz.  All rows of an image
are one pair with several captions.
"""

from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute

from gestalt.data_modules.corpora.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from gestalt.data_modules.corpora.stored_pairs import Store, check_inside
from gestalt.data_modules.corpora.table_files import (
    Layout,
    find_table,
    read_header,
    read_rows,
)
from gestalt.data_modules.digest import short_digest
from gestalt.data_modules.pixels.photographs import read_bytes
from gestalt.data_modules.sources import StoredPair
from gestalt.support.files import file_hash

CHUNK = 65_536
"""Number of rows that are copied into arrow's memory at a time."""


class TableRows(Store):
    """Images of a table with their captions, in the order of first appearance; rows without an
    image come last.

    Names and captions stay in arrow buffers: eleven million take as many bytes as the file, and
    forked processes share them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        columns: list[str | None],
        outside: bool,
    ) -> None:
        """Read the table.

        Raises:
            ValueError: it cannot be read, lacks a column, has no row, or names an image outside of
                the folder and ``outside`` is False.
        """
        self._path, self._images = layout.path, layout.images
        rows = read_rows(layout)
        names, chosen = read_header(rows, layout, columns)
        broken: list[int] = []
        places = [names.index(name) for name in chosen]
        chunks = [[pa.array([], pa.binary())] for _ in places]
        numbered = enumerate(rows, start=1)
        while some := list(islice(numbered, CHUNK)):
            whole = [row for _, row in some if len(row) == len(names)]
            broken += [number for number, row in some if len(row) != len(names)]
            for column, chunk in zip(places, chunks, strict=True):
                fields = [row[column].encode("latin-1") for row in whole]
                chunk.append(pa.array(fields, pa.binary()))
        files, self._captions = (pa.chunked_array(chunk).combine_chunks() for chunk in chunks)
        if not len(files) and not broken:
            raise ValueError(f"table: {layout.path} has a header and no row")
        if not outside:
            check_inside(
                (name.decode("utf-8", "surrogateescape") for name in files.unique().to_pylist()),
                table=layout.path,
                folder=layout.images,
            )
        empty = np.asarray(pa_compute.equal(pa_compute.binary_length(files), 0))
        numbers = np.setdiff1d(np.arange(1, len(files) + len(broken) + 1), broken)
        self._broken = [("broken_row", f"row {number}") for number in broken]
        self._broken += [("missing_image", f"row {number}") for number in numbers[empty]]
        filled = np.flatnonzero(~empty)
        coded = files.take(pa.array(filled)).dictionary_encode()
        codes = np.asarray(coded.indices)
        self._names = coded.dictionary
        self._rows = filled[np.argsort(codes, kind="stable")]
        self._ends = np.cumsum(np.bincount(codes, minlength=len(self._names)))
        self._columns = "\0".join([*chosen, layout.separator, str(layout.quoted)])

    def __len__(self) -> int:
        return len(self._names) + len(self._broken)

    def digest(self) -> str:
        """Return the digest of the table's bytes and its reading options, without the image
        files.
        """
        return short_digest(f"{file_hash(self._path)}\0{self._columns}")

    def read(self, index: int) -> StoredPair:
        """Read an image and its captions.

        Raises:
            BadSample: a broken row, or a file that is missing or unreadable.
        """
        if index >= len(self._names):
            reason, key = self._broken[index - len(self._names)]
            raise BadSample(reason, where=str(self._path), key=key)
        first = int(self._ends[index - 1]) if index else 0
        captions = [
            self._captions[int(row)].as_py() for row in self._rows[first : int(self._ends[index])]
        ]
        # a file name may be any bytes
        name = self._names[index].as_py().decode("utf-8", "surrogateescape")
        path = self._images / name
        where, key = str(path.parent), path.name
        with bad_sample_at(where, key):
            texts = [text for text in captions if text]
            return StoredPair(where, key, read_bytes(path), texts or captions)


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
        ValueError: as ``find_table`` and ``TableRows``.
    """
    layout = find_table(root, images=images, separator=separator, quoted=quoted)
    return TableRows(layout, columns=[image_column, captions.column], outside=outside)
