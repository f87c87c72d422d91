"""The run that ``segment`` and ``group`` share: read pictures, map each with each model, write
files and a page.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from tqdm import tqdm

from gestalt.api import Model
from gestalt.building.targets import TRAINED, place_of, step_of
from gestalt.commands.picture_words import result_files
from gestalt.commands.process import announce
from gestalt.data_modules.pixels.pictures import read_picture
from gestalt.evaluation.protocols import ImageProtocol
from gestalt.evaluation.weights import weights_hash
from gestalt.measures.segmentation.segmented import SegmentedImage
from gestalt.publishing.picture_files import numbers, write_result, write_summary
from gestalt.publishing.picture_page import PicturePage
from gestalt.support.caveats import printed_caveats

AT_ONCE = 8
"""Most pictures in memory at one time."""

PIXELS_AT_ONCE = 1 << 23
"""Most pixels in memory at one time, unless one picture has more; a picture takes about 40 bytes a
pixel while it is mapped.
"""

MOST_ELONGATED = 16.0
"""Largest ratio of the sides of a picture that is seen whole with its aspect kept: attention's cost
grows with the ratio's square.
"""

Mapped = Callable[[list[Tensor]], list[SegmentedImage]]


class Mapper(NamedTuple):
    """A model that maps pictures.

    Attributes:
        model: the model.
        about: how it maps them, as JSON.
        maps: from the kind of map, ``labels`` or ``groups``, to the function from pictures to maps.
        protocols: how the model sees a picture, for each map.
    """

    model: Model
    about: dict[str, Any]
    maps: dict[str, Mapped]
    protocols: Sequence[ImageProtocol] = ()


class Read(NamedTuple):
    """A picture that was read: its file, the name of its results, and its pixels (3, H, W)
    uint8.
    """

    path: Path
    name: str
    pixels: Tensor


def map_pictures(arguments: Namespace, mappers: Sequence[Mapper], *, kind: str) -> int:
    """Map every picture, write what the arguments ask for, and print where it is.

    Args:
        arguments: as ``check_outputs`` completed them.
        mappers: the models.
        kind: kind of the maps that are written as files, ``labels`` or ``groups``; the page has all
            kinds.

    Returns:
        The exit status: 1 if a picture could not be read, or is too elongated for a protocol.
    """
    skipped: dict[str, str] = {}
    entries: list[list[dict[str, Any]]] = [[] for _ in mappers]
    caveats: list[list[str]] = [[] for _ in mappers]
    for mapper in mappers:
        announce(mapper.model.origin)
    descriptions = [_description(mapper.model) for mapper in mappers]
    page = _page(mappers, descriptions) if arguments.html else None
    protocols = [protocol for mapper in mappers for protocol in mapper.protocols]
    for batch in _batches(_reading(arguments, skipped, protocols=protocols)):
        results = []
        for mapper, texts in zip(mappers, caveats, strict=True):
            with printed_caveats(mapper.model.name, texts):
                results.append(
                    {
                        name: maps([picture.pixels for picture in batch])
                        for name, maps in mapper.maps.items()
                    }
                )
        for position, picture in enumerate(batch):
            shown = [{name: maps[position] for name, maps in result.items()} for result in results]
            for index, (maps, rows) in enumerate(zip(shown, entries, strict=True)):
                rows.append(numbers(maps[kind], picture=picture.path, kind=kind))
                if arguments.folders:
                    files = result_files(picture.name, kind=kind, npy=arguments.npy)
                    write_result(
                        maps[kind],
                        rows[-1],
                        files=[arguments.folders[index] / file for file in files],
                    )
            if arguments.output:
                shown[0][kind].save(arguments.output)
            if page is not None:
                page.add(picture.name, shown)
    by_model = zip(
        mappers, descriptions, arguments.folders, entries, caveats, strict=bool(arguments.folders)
    )
    for mapper, facts, folder, rows, texts in by_model:
        write_summary(
            rows,
            about={**facts, **mapper.about, "caveats": texts, "skipped": skipped},
            folder=folder,
            kind=kind,
        )
    if page is not None and not page.empty:
        page.write(Path(arguments.html), caveats=caveats)
    done = len(arguments.pictures) - len(skipped)
    if done:
        for place in (arguments.output, arguments.to, arguments.html):
            if place:
                # a file's name need not be UTF-8
                print(str(place).encode(errors="backslashreplace").decode())
    if skipped:
        print(
            f"gestalt: {len(skipped)} of {len(arguments.pictures)} pictures were skipped",
            file=sys.stderr,
        )
    return 1 if skipped else 0


def _description(model: Model) -> dict[str, Any]:
    """Return what a summary says of a model: its name as it was given, what that meant, and the
    hash of its weights.
    """
    known = {key: model.identity[key] for key in TRAINED if key in model.identity}
    return {"model": model.name, **known, "weights_sha256": weights_hash(model.encoder)}


def _page(mappers: Sequence[Mapper], descriptions: Sequence[dict[str, Any]]) -> PicturePage:
    """Return an empty page, with a note for each model."""
    places = [place_of(mapper.model.identity) for mapper in mappers]
    notes = [
        ", ".join(filter(None, (step_of(facts), f"weights SHA-256 {facts['weights_sha256']}")))
        for facts in descriptions
    ]
    return PicturePage(places, notes=notes)


def _reading(
    arguments: Namespace, skipped: dict[str, str], *, protocols: Sequence[ImageProtocol]
) -> Iterator[Read]:
    """Read pictures one by one, under a progress bar on a terminal; name those that cannot be
    mapped, and put them into ``skipped``.
    """
    pairs = list(zip(arguments.pictures, arguments.names, strict=True))
    for path, name in tqdm(pairs, unit=" pictures", disable=None if len(pairs) > 1 else True):
        try:
            picture = Read(path, name, read_picture(path))
            for protocol in protocols:
                check_elongated(picture, protocol)
        except ValueError as error:
            skipped[str(path)] = str(error)
            tqdm.write(f"gestalt: {error}", file=sys.stderr)
            continue
        yield picture


def check_elongated(picture: Read, protocol: ImageProtocol) -> None:
    """Refuse a picture that a protocol would see whole at a size which takes minutes or all memory.

    Raises:
        ValueError: the resized picture's sides have a ratio above ``MOST_ELONGATED``, and it is not
            seen in windows.
    """
    height, width = picture.pixels.shape[1:]
    rows, columns = protocol.target_size(height, width)
    if getattr(protocol, "window", None) is None and max(rows, columns) > MOST_ELONGATED * min(
        rows, columns
    ):
        raise ValueError(
            f"{picture.path}: {width} x {height} pixels are too elongated for protocol "
            f"{protocol.name}, which would see {columns} x {rows} "
            "at once; crop the picture, or choose a protocol of squares, such as whole_square to "
            "segment or pca_square to group"
        )


def _batches(pictures: Iterator[Read]) -> Iterator[list[Read]]:
    """Yield pictures in order, a few at a time."""
    batch: list[Read] = []
    for picture in pictures:
        if batch and (
            len(batch) == AT_ONCE
            or sum(each.pixels[0].numel() for each in (*batch, picture)) > PIXELS_AT_ONCE
        ):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch
