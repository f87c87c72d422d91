"""segment and group: give every pixel of pictures the label that it resembles most, or a group of
similar locations; read pictures, map each with each model, write files and a page.
"""

import errno
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from gestalt.api import Model, load, partition_protocol, segmentation_protocol
from gestalt.commands.picture_words import result_files
from gestalt.commands.process import quiet
from gestalt.data_modules.pixels.pictures import read_picture
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.measures.evaluation.weights import weights_hash
from gestalt.measures.segmentation.segmented import SegmentedImage
from gestalt.models.opening import TRAINED, Identity, place_of, step_of
from gestalt.publishing.picture_page import (
    numbers,
    page_entry,
    write_page,
    write_result,
    write_summary,
)
from gestalt.support.caveats import Caveat
from gestalt.support.json_files import Fields

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

MapPictures = Callable[[list[Tensor]], list[SegmentedImage]]


@dataclass
class Mapper:
    """A model that maps pictures.

    Attributes:
        model: the model.
        about: how it maps them, as JSON.
        maps: from the kind of map, ``labels`` or ``groups``, to the function from pictures to maps.
        protocols: how the model sees a picture, for each map.
        entries: the numbers of the pictures so far, for the summary in a folder.
        caveats: the warnings so far.
    """

    model: Model
    about: Fields
    maps: dict[str, MapPictures] = field(default_factory=dict)
    protocols: list[ImageProtocol] = field(default_factory=list)
    entries: list[Fields] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)

    @cached_property
    def identity(self) -> Identity:
        """The model in a summary: its name as given, what the name meant, and its weights' hash."""
        known = {key: self.model.identity[key] for key in TRAINED if key in self.model.identity}
        return {
            "model": self.model.name,
            **known,
            "weights_sha256": weights_hash(self.model.encoder),
        }

    def map(self, pictures: list[Tensor]) -> list[dict[str, SegmentedImage]]:
        """Return the maps of each picture by their kind; print each caveat once, and keep it; other
        warnings are shown as ever.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", Caveat)
            mapped = [maps(pictures) for maps in self.maps.values()]
        for warning in caught:
            text = str(warning.message)
            if not issubclass(warning.category, Caveat):
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
            elif text not in self.caveats:
                self.caveats.append(text)
                tqdm.write(f"gestalt: {self.model.name}: {text}", file=sys.stderr)
        return [dict(zip(self.maps, row, strict=True)) for row in zip(*mapped, strict=True)]


class LoadedImage(NamedTuple):
    """A picture that was read: its file, the name of its results, and its pixels (3, H, W)
    uint8.
    """

    path: Path
    name: str
    pixels: Tensor


def run(arguments: Namespace) -> int:
    """Map every picture with every model, write what the arguments ask for, and print where it is.

    Returns:
        The exit status: 1 if a picture could not be read, is too elongated for a protocol, or its
            results would have too long a name.

    Raises:
        ValueError: a model that cannot be opened, or a protocol, a reading, a threshold or a number
            of groups that does not fit it.
    """
    quiet()
    kind = arguments.kind
    mappers = [_mapper(load(target), arguments) for target in arguments.models]
    skipped: dict[str, str] = {}
    for mapper in mappers:
        print(f"model: {mapper.model.origin}", file=sys.stderr, flush=True)
    images: list[Fields] = []  # of the page
    protocols = [protocol for mapper in mappers for protocol in mapper.protocols]
    for batch in _batches(_read_pictures(arguments, skipped, protocols)):
        mapped = [mapper.map([picture.pixels for picture in batch]) for mapper in mappers]
        for picture, *shown in zip(batch, *mapped, strict=True):
            for mapper, maps, folder in zip(mappers, shown, arguments.folders, strict=False):
                names = result_files(picture.name, kind, arguments.npy)
                entry = numbers(maps[kind], picture=picture.path, kind=kind)
                try:
                    write_result(maps[kind], entry, files=[folder / name for name in names])
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    _skip(picture.path, f"{error}; give it a shorter name", skipped)
                    continue
                mapper.entries.append(entry)
            if arguments.output:
                shown[0][kind].save(arguments.output)
            if arguments.html:
                images.append(page_entry(picture.name, shown))
    for mapper, folder in zip(mappers, arguments.folders, strict=False):
        about = {**mapper.identity, **mapper.about, "caveats": mapper.caveats, "skipped": skipped}
        write_summary(mapper.entries, about, folder, kind)
    if images:
        _write_page(Path(arguments.html), images, mappers)
    if len(arguments.pictures) > len(skipped):
        for place in (arguments.output, arguments.to, arguments.html):
            if place:
                # a file's name need not be UTF-8
                print(str(place).encode(errors="backslashreplace").decode())
    if skipped:
        line = f"gestalt: {len(skipped)} of {len(arguments.pictures)} pictures were skipped"
        print(line, file=sys.stderr, flush=True)
    return 1 if skipped else 0


def _mapper(model: Model, arguments: Namespace) -> Mapper:
    """Return the functions that segment with a model, or group with it; segment may do both."""
    groups = arguments.groups
    name = arguments.protocol
    mapper = Mapper(model, {"groups": groups, "protocol": name})
    if arguments.command == "segment":
        chosen = segmentation_protocol(
            model,
            protocol=name,
            reading=arguments.reading,
            threshold=arguments.threshold,
        )
        fields = {key: getattr(chosen, key) for key in ("name", "reading", "threshold")}
        mapper.about = {"protocol": {**fields, "digest": chosen.digest()}}
        mapper.protocols.append(chosen)
        mapper.maps["labels"] = lambda pictures: model.segment(
            pictures, arguments.labels, protocol=chosen
        )
        name = None  # of the groups: the model's
    if groups is not None:
        mapper.protocols.append(partition_protocol(model, groups, name=name))
        mapper.maps["groups"] = _grouping(model, groups, name)
    return mapper


def _grouping(model: Model, groups: int, protocol: str | None) -> MapPictures:
    """Return the function from pictures to their groups, named by number, largest first."""

    def grouped(picture: Tensor, values: Tensor) -> SegmentedImage:
        shares = torch.bincount(values.flatten(), minlength=groups) / values.numel()
        order = shares.argsort(descending=True, stable=True)
        names = tuple(f"group {number}" for number in range(1, groups + 1))
        areas = dict(zip(names, shares[order].tolist(), strict=True))
        ranks = order.argsort()[values.long()].to(torch.uint8)
        return SegmentedImage(names, ranks, {}, areas, picture, torch.empty(0, 1, 1))

    def mapped(pictures: list[Tensor]) -> list[SegmentedImage]:
        maps = model.group(pictures, groups, protocol=protocol)
        return [grouped(picture, values) for picture, values in zip(pictures, maps, strict=True)]

    return mapped


def _write_page(path: Path, images: list[Fields], mappers: list[Mapper]) -> None:
    """Write the page, with a note and the caveats of each model."""
    places = [place_of(mapper.model.identity) for mapper in mappers]
    notes = []
    for mapper in mappers:
        weights = f"weights SHA-256 {mapper.identity['weights_sha256']}"
        notes.append(", ".join(filter(None, (step_of(mapper.identity), weights))))
    write_page(path, images, places, notes, [mapper.caveats for mapper in mappers])


def _read_pictures(
    arguments: Namespace, skipped: dict[str, str], protocols: list[ImageProtocol]
) -> Iterator[LoadedImage]:
    """Read pictures one by one, under a progress bar on a terminal; name those that cannot be
    mapped, and put them into ``skipped``.
    """
    pairs = list(zip(arguments.pictures, arguments.names, strict=True))
    for path, name in tqdm(pairs, unit=" pictures", disable=None if len(pairs) > 1 else True):
        try:
            picture = LoadedImage(path, name, read_picture(path))
            for protocol in protocols:
                check_elongated(picture, protocol)
        except ValueError as error:
            _skip(path, str(error), skipped)
            continue
        yield picture


def _skip(path: Path, why: str, skipped: dict[str, str]) -> None:
    """Say why a picture has no result, and keep it for the summary."""
    skipped[str(path)] = why
    tqdm.write(f"gestalt: {why}", file=sys.stderr)


def check_elongated(picture: LoadedImage, protocol: ImageProtocol) -> None:
    """Refuse a picture that a protocol would see whole at a size which takes minutes or all memory.

    Raises:
        ValueError: the resized picture's sides have a ratio above ``MOST_ELONGATED``, and it is not
            seen in windows.
    """
    height, width = picture.pixels.shape[1:]
    rows, columns = protocol.target_size(height, width)
    ratio = max(rows, columns) / min(rows, columns)
    if getattr(protocol, "window", None) is None and ratio > MOST_ELONGATED:
        raise ValueError(
            f"{picture.path}: {width} x {height} pixels are too elongated for protocol "
            f"{protocol.name}, which would see {columns} x {rows} at once; crop the picture, or "
            "choose a protocol of squares, such as whole_square to segment or pca_square to group"
        )


def _batches(pictures: Iterator[LoadedImage]) -> Iterator[list[LoadedImage]]:
    """Yield pictures in order, a few at a time."""
    batch: list[LoadedImage] = []
    for picture in pictures:
        pixels = sum(each.pixels[0].numel() for each in (*batch, picture))
        if batch and (len(batch) == AT_ONCE or pixels > PIXELS_AT_ONCE):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch
