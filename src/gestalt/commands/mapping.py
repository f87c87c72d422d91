"""Read pictures for ``segment`` and ``group``, compute maps with each model, and write files and a
page.
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
"""Maximum number of pictures in memory at one time."""

MAX_PIXELS = 1 << 23
"""Maximum number of pixels in memory at one time, unless a single picture has more.  While it is
mapped, a picture takes about 40 bytes for each pixel.
"""

ONE_OF_THEM = (
    "each pixel has one of the labels, also where none fits; add the label background, or give a "
    "--threshold"
)

MAX_ELONGATION = 16.0
"""Maximum aspect ratio of a picture that the model sees whole with its aspect ratio kept.  The cost
of attention grows with the square of the ratio.
"""


class Mapper:
    """A model that segments pictures: into labels, into groups, or both.

    Args:
        target: name of the model.
        arguments: arguments of the command, which set how pictures are mapped.

    Attributes:
        model: the model.
        about: settings of the mapping, as JSON.
        maps: kind of map, ``labels`` or ``groups`` -> function that maps pictures.
        protocols: kind of map -> protocol that prepares a picture for the model.
        entries: the numbers of each picture mapped so far, for the summary in the folder.
        caveats: the warnings so far.
        unnamed: True if every pixel gets a label, even if no label fits.
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
            name = None  # the model's default for groups
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
        """The model as a summary describes it: its name as given, the model that the name resolved
        to, and the hash of the weights.
        """
        known = {key: self.model.identity[key] for key in TRAINED if key in self.model.identity}
        return {
            "model": self.model.name,
            **known,
            "weights_sha256": weights_hash(self.model.encoder),
        }

    def map(self, pictures: list[Tensor]) -> list[dict[str, SegmentedImage]]:
        """Return the maps of each picture, by kind of map.

        Each caveat is printed once and stored; other warnings are shown.
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
    """A picture that was read: its file, the name of its results, and its pixels, (3, H, W)
    uint8.
    """

    path: Path
    name: str
    pixels: Tensor


def map_pictures(arguments: Namespace) -> int:
    """Map every picture with every model, write the requested files, and print their paths.

    Returns:
        The exit status: 1 if a picture was skipped, else 0. A picture is skipped if it cannot be
        read, is too elongated for a protocol, or if the name of its results would be too long.

    Raises:
        ValueError: a model cannot be opened; or a protocol, a dense inference method, a threshold
            or a number of groups does not fit the model.
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
                # The name of a file may not be valid UTF-8.
                print(str(place).encode(errors="backslashreplace").decode())
    if skipped:
        tell(f"gestalt: {len(skipped)} of {len(work.pictures)} pictures were skipped")
    return 1 if skipped else 0


def _map(arguments: Namespace, folders: list[Path]) -> dict[str, str]:
    """Map every picture with every model, and write the results of each model to its folder if
    there are folders.  Returns skipped picture -> reason.
    """
    work: Work = arguments.checked
    kind = work.kind
    mappers = [Mapper(target, arguments) for target in arguments.models]
    skipped: dict[str, str] = {}
    for mapper in mappers:
        tell(f"model: {mapper.model.origin}")
    images: list[Fields] = []  # to show on the page
    protocols = [protocol for mapper in mappers for protocol in mapper.protocols]
    for batch in _read_pictures(work, skipped, protocols):
        mapped = [mapper.map([picture.pixels for picture in batch]) for mapper in mappers]
        for number, picture in enumerate(batch):
            shown = [maps[number] for maps in mapped]  # one for each model
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
    """Return a map of the groups of a picture.  Groups are named by number, the largest first."""
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
    """Yield pictures in order, a few at a time, with a progress bar on a terminal.

    Pictures that cannot be mapped are printed and added to ``skipped``.
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
    """Print why a picture has no result, and store the reason for the summary."""
    skipped[str(path)] = why
    tqdm.write(f"gestalt: {why}", file=sys.stderr)


def check_elongated(picture: LoadedImage, protocol: ImageProtocol) -> None:
    """Refuse a picture that is too elongated for a protocol, since mapping it would take minutes or
    all memory.

    Raises:
        ValueError: the aspect ratio of the resized picture is above ``MAX_ELONGATION``, and the
            protocol does not use sliding windows.
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
