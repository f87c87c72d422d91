"""Files of a table of captions: columns of parquet, CSV, TSV or JSON lines, copied to one arrow
file, in which any row can be read.
"""

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from gestalt.data_modules.corpora.columns import check_columns
from gestalt.data_modules.corpora.table_files import READ_ERRORS, SEPARATORS, open_text, read_rows
from gestalt.support.addresses import without_secrets
from gestalt.support.files import Fields

ROWS, STORED = 512, 8192
"""Rows that are parsed at a time, few enough to stay in the processor's cache, and rows that are
stored as one batch.
"""

Chunk = tuple[list[Any], int]
"""The columns of some rows, and the number of rows that are left out among them."""


def copy_columns(
    files: list[str], *, key: str, texts: list[str], url: bool, folder: str
) -> tuple[pa.Table, int]:
    """Copy columns of a table into a folder.

    Args:
        files: the table's files, local or remote.
        key: column of the join values; in JSON lines, its numbers are read as text.
        texts: columns of captions.
        url: True to copy ``url`` too, which is null where a file does not have it.
        folder: folder for the copy, and for remote files.

    Returns:
        The columns, mapped into memory, and the number of rows that are left out because their
        number of fields differs from the header's.

    Raises:
        ValueError: a file cannot be read, lacks a column, or has it twice; or no file has a row.
    """
    manager = datasets.DownloadManager(
        download_config=datasets.DownloadConfig(cache_dir=folder, disable_tqdm=True)
    )
    required = [*dict.fromkeys([key, *texts])]
    names = [*dict.fromkeys([*required, "url"])] if url else required
    copy, left_out = Path(folder, "rows.arrow"), 0
    writer: Any = None
    batches: list[pa.RecordBatch] = []
    for file, path in zip(map(without_secrets, files), manager.download(files), strict=True):
        where = f"data.captions: {file}"
        try:
            for columns, left in _chunks(
                Path(path), file, names=names, required=required, where=where
            ):
                if writer is None:
                    kinds = [_storable(pa.array(column).type) for column in columns]
                    schema = pa.schema(zip(names, kinds, strict=True))
                    writer = pa.ipc.new_stream(str(copy), schema)
                batches.append(pa.record_batch(columns, schema))
                left_out += left
                if sum(map(len, batches)) >= STORED:
                    writer.write_batch(pa.concat_batches(batches))
                    batches.clear()
        except (*READ_ERRORS, UnicodeError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno:  # of the disk, such as a full one
                raise
            raise ValueError(f"{where} cannot be read: {error}") from error
    if writer is None:
        raise ValueError(f"{where} has no row")
    if batches:
        writer.write_batch(pa.concat_batches(batches))
    writer.close()
    return pa.ipc.open_stream(pa.memory_map(str(copy))).read_all(), left_out


def _storable(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column whose first rows have another one: text if all are null."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.string() if pa.types.is_null(kind) else kind


def _chunks(
    path: Path, file: str, *, names: list[str], required: list[str], where: str
) -> Iterator[Chunk]:
    """Read columns of a file in the format of its name's ending; JSON lines for any other."""
    packed, ending = file.endswith(".gz"), Path(file.removesuffix(".gz")).suffix
    if ending == ".parquet":
        return _parquet(path, names, required, where)
    if ending not in SEPARATORS:
        return _json(_objects(path, packed=packed, where=where), names, required, where)
    rows = read_rows(path, SEPARATORS[ending], where=where, packed=packed, encoding="utf-8")
    header = next(rows, [])
    check_columns(required, header, where=where)
    return _separated(rows, [header.index(name) if name in header else None for name in names])


def _parquet(path: Path, names: list[str], required: list[str], where: str) -> Iterator[Chunk]:
    with pq.ParquetFile(path, page_checksum_verification=True) as table:
        header = table.schema_arrow.names
        check_columns(required, header, where=where)
        for batch in table.iter_batches(STORED, columns=[name for name in names if name in header]):
            missing = pa.nulls(len(batch))
            yield [batch.column(name) if name in header else missing for name in names], 0


def _separated(rows: Iterator[list[str]], places: list[int | None]) -> Iterator[Chunk]:
    while some := list(islice(rows, ROWS)):
        whole = [row for row in some if row]
        missing = [None] * len(whole)
        columns = [
            missing if place is None else [row[place] or None for row in whole] for place in places
        ]
        yield columns, len(some) - len(whole)


def _json(
    objects: Iterator[Fields], names: list[str], required: list[str], where: str
) -> Iterator[Chunk]:
    header: Fields = {}
    while some := list(islice(objects, ROWS)):
        header |= dict.fromkeys(chain.from_iterable(some))
        columns = [[row.get(name) for row in some] for name in names]
        columns[0] = [None if value is None else str(value) for value in columns[0]]
        yield columns, 0
    check_columns(required, [*header], where=where)  # any row may lack one


def _objects(path: Path, *, packed: bool, where: str) -> Iterator[Fields]:
    """Read JSON lines."""
    with open_text(path, packed=packed, encoding="utf-8") as text:
        for number, line in enumerate(text, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__}")
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{where}, line {number}: not an object of JSON ({error}); write one object "
                    "in each line"
                ) from error
            yield row
