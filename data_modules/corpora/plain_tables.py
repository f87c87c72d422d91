"""Columns of CSV, TSV and JSON lines by pyarrow's readers, which are faster than Python's.

They are used where both give the same texts, block by block of whole rows.  A block of CSV is
plain if each double quote opens or closes a whole field, or is doubled within one, and each
carriage return is that of a line end.  A block of JSON is plain if each line is one object, whose
columns are texts or null.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from gestalt.data_modules.corpora.table_files import open_bytes

BLOCK = 2**22
"""Bytes that are read at a time; a block has at most twice as many."""

Chunk = tuple[list[Any], int]
"""The columns of some rows, and the number of rows that are left out among them."""


class NotPlain(ValueError):
    """A block that pyarrow's readers might read in another way than Python's."""


def _blocks(path: Path, *, packed: bool, quoted: bool) -> Iterator[bytes]:
    """Yield a table in blocks of whole lines, and of whole quotes if fields may be quoted."""
    with open_bytes(path, packed=packed) as file:
        while block := file.read(BLOCK):
            lines = [block, file.readline(BLOCK)]
            odd = quoted and sum(line.count(b'"') for line in lines) % 2
            size = sum(map(len, lines))
            while odd and (line := file.readline(BLOCK)) and size < 2 * BLOCK:
                lines.append(line)
                size += len(line)
                odd ^= line.count(b'"') % 2
            block = b"".join(lines)
            block.decode()  # raises where the text is not UTF-8
            if odd or size >= 2 * BLOCK:
                raise NotPlain
            yield block if block.endswith(b"\n") else block + b"\n"


def plain_separated(
    path: Path, delimiter: str, places: list[int | None], fields: int, *, packed: bool
) -> Iterator[Chunk]:
    """Yield columns of a CSV or TSV file; an empty field is null.

    Args:
        path: the file.
        delimiter: character between fields.
        places: number of each column in the file; None for a column of nulls.
        fields: number of fields of a row; rows with another number are left out.
        packed: True for a gz file.

    Raises:
        NotPlain, pa.ArrowException: pyarrow cannot read the next block.
        UnicodeError: the text is not UTF-8.
    """
    names = [str(place) for place in range(fields)]
    chosen = [name for name in names if int(name) in places]
    convert = pa.csv.ConvertOptions(
        include_columns=chosen,
        column_types=dict.fromkeys(chosen, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    header = 1
    for block in _blocks(path, packed=packed, quoted=True):
        _check_separated(block, delimiter)
        broken: list[Any] = []

        def leave_out(row: Any, broken: list[Any] = broken) -> str:
            broken.append(row.actual_columns)
            return "skip"

        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(use_threads=False, block_size=len(block), column_names=names),
            pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=leave_out
            ),
            convert,
        ).slice(header)
        header = 0
        missing = pa.nulls(len(table))
        columns = [
            missing if place is None else table.column(str(place)).combine_chunks()
            for place in places
        ]
        if len(table) or broken:
            yield columns, len(broken)


def _check_separated(block: bytes, delimiter: str) -> None:
    """Raise ``NotPlain`` for a carriage return within a line, or a quote within a field."""
    letters = np.frombuffer(b"\n" + block, np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    before, after = letters[quotes[::2] - 1], letters[quotes[1::2] + 1]
    whole = (
        block.count(b"\r") == block.count(b"\r\n")
        and np.isin(before, [*b'"\n', ord(delimiter)]).all()
        and np.isin(after, [*b'"\r\n', ord(delimiter)]).all()
    )
    if not whole:
        raise NotPlain


def plain_objects(
    path: Path, names: list[str], required: list[str], *, packed: bool
) -> Iterator[Chunk]:
    """Yield columns of a file of JSON lines.

    Args:
        path: the file.
        names: the columns; null where an object lacks one.
        required: those that are in some row.
        packed: True for a gz file.

    Raises:
        NotPlain, pa.ArrowException: pyarrow cannot read the next block, or no row has a text in one
            of the required columns.
        UnicodeError: the text is not UTF-8.
    """
    schema = pa.schema([(name, pa.string()) for name in names])
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    lacking = {*required}
    for block in _blocks(path, packed=packed, quoted=False):
        lines = block.count(b"\n")
        if b"\r" in block or not block.startswith(b"{"):
            raise NotPlain
        if block.count(b"\n{") != lines - 1 or block.count(b"}\n") != lines:
            raise NotPlain
        read = pa.json.ReadOptions(use_threads=False, block_size=len(block))
        table = pa.json.read_json(pa.BufferReader(block), read, parse).combine_chunks()
        if len(table) != lines:
            raise NotPlain
        columns = [table.column(name).combine_chunks() for name in names]
        lacking -= {
            name
            for name, column in zip(names, columns, strict=True)
            if column.null_count < len(column)
        }
        yield columns, 0
    if lacking:
        raise NotPlain
