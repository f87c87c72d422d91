"""Map pictures for ``segment`` and ``group``: read them, map each with each model, write files and
a page.
"""

import errno
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from gestalt.api import load, partition_protocol, segmentation_protocol
from gestalt.commands.pictures import Work
from gestalt.data_modules.pixels.pictures import read_picture
from gestalt.encoders.weights import weights_hash
from gestalt.measures.evaluation.pictures import BACKGROUND
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.measures.segmentation.segmented import SegmentedImage, protocol_for
from gestalt.models.opening import TRAINED, Identity, place_of, step_of
from gestalt.publishing.picture_page import (
    numbers,
    page_entry,
    titles,
    write_page,
    write_result,
    write_summary,
)
from gestalt.support.faults import Caveat
from gestalt.support.files import Fields, filled_folder
from gestalt.support.process import tell

MAX_PICTURES = 8
"""Most pictures in memory at one time."""

MAX_PIXELS = 1 << 23
"""Most pixels in memory at one time, unless one picture has more; a picture takes about 40 bytes a
pixel while it is mapped.
"""

ONE_OF_THEM = (
    "each pixel has one of the labels, also where none fits; add the label background, or give a "
    "--threshold"
)

MAX_ELONGATION = 16.0
"""Largest ratio of the sides of a picture that is seen whole with its aspect kept: attention's cost
grows with the ratio's square.
"""


class Mapper:
    """A model that maps pictures: by labels, in groups, or both.

    Args:
        target: names the model.
        arguments: those of the command, which say how it maps.

    Attributes:
        model: the model.
        about: how it maps pictures, as JSON.
        maps: from the kind of map, ``labels`` or ``groups``, to the function from pictures to maps.
        protocols: how the model sees a picture, for each map.
        entries: the numbers of the pictures so far, for the summary in a folder.
        caveats: the warnings so far.
        unnamed: True if pixels that no label fits have one all the same.
    """

    def __init__(self, target: str, arguments: Namespace) -> None:
        work: Work = arguments.checked
        model = self.model = load(target, overrides=work.overrides)
        groups = arguments.groups
        name = arguments.protocol
        self.about: Fields = {"groups": groups, "protocol": name}
        self.maps: dict[str, Callable[[list[Tensor]], list[SegmentedImage]]] = {}
        self.protocols: list[ImageProtocol] = []
        self.entries: list[Fields] = []
        self.caveats: list[str] = []
        self.unnamed = False
        if arguments.command == "segment":
            chosen = segmentation_protocol(
                model,
                protocol=name,
                reading=arguments.reading,
                threshold=arguments.threshold,
            )
            effective = protocol_for(work.labels, chosen)
            shown = {"reading": effective.reading, "prior": effective.prior}
            self.about = {"protocol": {**effective.fields(), **shown, "digest": effective.digest()}}
            self.protocols.append(chosen)
            self.maps["labels"] = lambda pictures: model.segment(
                pictures, work.labels, protocol=chosen
            )
            name = None  # of the groups: the model's
            self.unnamed = arguments.threshold is None and BACKGROUND not in work.labels
        if groups is not None:
            self.protocols.append(partition_protocol(model, groups, name=name))
            self.maps["groups"] = lambda pictures: [
                _as_groups(picture, values, groups)
                for picture, values in zip(
                    pictures, model.group(pictures, groups, protocol=name), strict=True
                )
            ]

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
        """Return the maps of each picture by their kind; print each caveat once, and keep it; show
        other warnings.
        """
        with warnings.catch_warnings(record=True, action="always", category=Caveat) as caught:
            mapped = [maps(pictures) for maps in self.maps.values()]
            if self.unnamed:
                warnings.warn(ONE_OF_THEM, Caveat, stacklevel=2)
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


def map_pictures(arguments: Namespace) -> int:
    """Map every picture with every model, write what the arguments ask for, and print where it is.

    Returns:
        The exit status: 1 if a picture could not be read, is too elongated for a protocol, or its
            results would have too long a name.

    Raises:
        ValueError: a model that cannot be opened, or a protocol, a reading, a threshold or a number
            of groups that does not fit it.
    """
    work: Work = arguments.checked
    if arguments.to is None:
        skipped = _map(arguments, [])
    else:
        with filled_folder(Path(arguments.to)) as partial:
            to = arguments.to
            skipped = _map(arguments, [partial / path.relative_to(to) for path in work.folders])
    if len(work.pictures) > len(skipped):
        for place in (work.output, arguments.to, arguments.html):
            if place:
                # The name of a file need not be UTF-8.
                print(str(place).encode(errors="backslashreplace").decode())
    if skipped:
        tell(f"gestalt: {len(skipped)} of {len(work.pictures)} pictures were skipped")
    return 1 if skipped else 0


def _map(arguments: Namespace, folders: list[Path]) -> dict[str, str]:
    """Map every picture with every model, and write the results of each model into its folder, if
    there are folders.  Returns the pictures that were skipped, and why.
    """
    work: Work = arguments.checked
    kind = work.kind
    mappers = [Mapper(target, arguments) for target in arguments.models]
    skipped: dict[str, str] = {}
    for mapper in mappers:
        tell(f"model: {mapper.model.origin}")
    images: list[Fields] = []  # of the page
    protocols = [protocol for mapper in mappers for protocol in mapper.protocols]
    for batch in _read_pictures(work, skipped, protocols):
        mapped = [mapper.map([picture.pixels for picture in batch]) for mapper in mappers]
        for number, picture in enumerate(batch):
            shown = [maps[number] for maps in mapped]  # of each model
            for mapper, maps, folder in zip(mappers, shown, folders, strict=False):
                files = [folder / f"{picture.name}{suffix}" for suffix in work.suffixes]
                entry = numbers(maps[kind], picture=picture.path, kind=kind)
                try:
                    write_result(maps[kind], entry, files=files)
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    _skip(picture.path, f"{error}; give it a shorter name", skipped)
                    continue
                mapper.entries.append(entry)
            if work.output:
                shown[0][kind].save(work.output)
            if arguments.html:
                images.append(page_entry(picture.name, shown))
    for mapper, folder in zip(mappers, folders, strict=False):
        about = {**mapper.identity, **mapper.about, "caveats": mapper.caveats, "skipped": skipped}
        write_summary(mapper.entries, about, folder, kind)
    if images:
        _write_page(Path(arguments.html), images, mappers)
    return skipped


def _as_groups(picture: Tensor, values: Tensor, groups: int) -> SegmentedImage:
    """Return the groups of a picture named by number, largest first."""
    shares = torch.bincount(values.flatten(), minlength=groups) / values.numel()
    order = shares.argsort(descending=True, stable=True)
    names = tuple(f"group {number}" for number in range(1, groups + 1))
    areas = dict(zip(names, shares[order].tolist(), strict=True))
    ranks = order.argsort()[values.long()].to(torch.uint8)
    return SegmentedImage(
        labels=names,
        map=ranks,
        scores={},
        areas=areas,
        image=picture,
        similarity=torch.empty(0, 1, 1),
    )


def _write_page(path: Path, images: list[Fields], mappers: list[Mapper]) -> None:
    """Write the page, with a note and the caveats of each model."""
    models = titles([place_of(mapper.model.identity) for mapper in mappers])
    notes = []
    caveats = []
    for model, mapper in zip(models, mappers, strict=True):
        weights = f"weights SHA-256 {mapper.identity['weights_sha256']}"
        facts = ", ".join(filter(None, (step_of(mapper.identity), weights)))
        notes.append(f"{model}: {facts}.")
        caveats += [f"{model}: {caveat}" for caveat in mapper.caveats]
    write_page(path, images, models, notes, caveats)


def _read_pictures(
    work: Work, skipped: dict[str, str], protocols: list[ImageProtocol]
) -> Iterator[list[LoadedImage]]:
    """Read pictures in order, a few at a time, under a progress bar on a terminal; name those that
    cannot be mapped, and put them into ``skipped``.
    """
    batch: list[LoadedImage] = []
    pairs = list(zip(work.pictures, work.names, strict=True))
    for path, name in tqdm(pairs, unit=" pictures", disable=None if len(pairs) > 1 else True):
        try:
            picture = LoadedImage(path, name, read_picture(path))
            for protocol in protocols:
                check_elongated(picture, protocol)
        except ValueError as error:
            _skip(path, str(error), skipped)
            continue
        pixels = sum(each.pixels[0].numel() for each in (*batch, picture))
        if batch and (len(batch) == MAX_PICTURES or pixels > MAX_PIXELS):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def _skip(path: Path, why: str, skipped: dict[str, str]) -> None:
    """Say why a picture has no result, and keep it for the summary."""
    skipped[str(path)] = why
    tqdm.write(f"gestalt: {why}", file=sys.stderr)


def check_elongated(picture: LoadedImage, protocol: ImageProtocol) -> None:
    """Refuse a picture that a protocol would see whole at a size which takes minutes or all memory.

    Raises:
        ValueError: the resized picture's sides have a ratio above ``MAX_ELONGATION``, and it is not
            seen in windows.
    """
    height, width = picture.pixels.shape[1:]
    rows, columns = protocol.target_size(height, width)
    ratio = max(rows, columns) / min(rows, columns)
    if getattr(protocol, "window", None) is None and ratio > MAX_ELONGATION:
        raise ValueError(
            f"{picture.path}: {width} x {height} pixels are too elongated for protocol "
            f"{protocol.name}, which would see {columns} x {rows} at once; crop the picture, or "
            "choose a protocol of squares, such as whole_square to segment or pca_square to group"
        )
