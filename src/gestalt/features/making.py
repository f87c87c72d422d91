"""Make the files of a cache: what is missing of them, one after the other.  B batch, S image side."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.features.rows import Rows, as_stored, write_shard
from gestalt.features.texts import Index, fill_with_texts
from gestalt.support.files import replacing
from gestalt.tokens import Tokens

Loaded = tuple[Tensor, list[tuple[int, str, str, str]]]
"""Images (B, 3, S, S) uint8 of consecutive rows, black where they are bad; and row, reason, where and key of each bad one."""


def bad_file(folder: Path, shard: int) -> Path:
    """Return the file of the bad images of a shard."""
    return folder / f"bad_{shard:05d}.json"


def bad_images(rows: Rows, folder: Path) -> dict[int, tuple[str, str, str]]:
    """Return reason, where and key of each bad image by its row."""
    listed = (json.loads(bad_file(folder, shard).read_text(encoding="utf-8")) for shard in range(rows.shards))
    return {row: (reason, where, key) for entries in listed for row, reason, where, key in entries}


def missing_images(rows: Rows, folder: Path) -> list[int]:
    """Return the numbers of the files of images that are not written yet."""
    unlisted = {shard for shard in range(rows.shards) if not bad_file(folder, shard).is_file()}
    return sorted(unlisted.union(rows.missing(folder)))


def write_images(
    rows: Rows, folder: Path, *, load: Callable[[list[range]], Iterable[Loaded]], encode: Callable[[Tensor, range], Tensor], batch: int
) -> Iterator[int]:
    """Write the missing files of images; yield the number of rows after each batch.

    Args:
        rows: the layout.
        folder: folder of the files.
        load: images of each range of rows, in order.
        encode: images and their rows to features.
        batch: most images that are encoded together.
    """
    shards = missing_images(rows, folder)
    spans = {shard: [range(first, min(first + batch, rows.span(shard).stop)) for first in rows.span(shard)[::batch]] for shard in shards}
    loaded = iter(load([span for shard in shards for span in spans[shard]]))
    for shard in shards:
        bad: list[tuple[int, str, str, str]] = []

        def fill(values: NDArray[Any], shard: int = shard, bad: list[tuple[int, str, str, str]] = bad) -> None:
            for span in spans[shard]:
                images, faults = next(loaded)
                features = encode(images, span)
                features[[row - span.start for row, *_ in faults]] = 0
                values[span.start - rows.span(shard).start : span.stop - rows.span(shard).start] = as_stored(features, stored=rows.stored)
                bad += faults

        write_shard(rows, folder, shard, fill=fill)
        with replacing(bad_file(folder, shard)) as partial:
            partial.write_text(json.dumps(bad) + "\n", encoding="utf-8")
        yield len(rows.span(shard))


def write_texts(rows: Rows, folder: Path, *, texts: list[str], index: Index, encode: Callable[[list[str]], Tokens]) -> Iterator[int]:
    """Write the missing files of texts and their index; yield the number of rows after each file."""
    index.write(folder)
    for shard in rows.missing(folder):
        span = rows.span(shard)

        def fill(values: NDArray[Any], span: range = span) -> None:
            fill_with_texts(values, span, texts=texts, index=index, encode=encode, stored=rows.stored)

        write_shard(rows, folder, shard, fill=fill)
        yield len(span)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a number format, such as float32."""
    return str(dtype).removeprefix("torch.")
