"""Write the features of a frozen image tower to a cache, and read them during training.

B batch size, S image side.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from gestalt.config.schema import Experiment
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.loading import leave_group
from gestalt.data_modules.pairs import Key
from gestalt.data_modules.pixels.augment import RATIO
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from gestalt.encoders.keys import train_size
from gestalt.encoders.weights import tensors_hash
from gestalt.losses.noun_list import NounList
from gestalt.model import DualEncoder
from gestalt.models.start import build_model, check_names
from gestalt.runs import locks
from gestalt.runs.cache_key import FILE, IMAGES, SUMS, Description, kept_share, key_of
from gestalt.runs.process import check_alone
from gestalt.runs.source import build_source, loading_processes
from gestalt.runs.training import caption_reader
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.arrays import map_array
from gestalt.support.files import free_bytes
from gestalt.support.keys import refuse
from gestalt.support.process import keep_freed_memory, tell
from gestalt.support.typed import ConfigError
from gestalt.training.machine import check_machine


def whole_key(config: Experiment, model: DualEncoder, source: Source) -> dict[str, Any]:
    """Return everything that the features depend on: configuration, weights, crops and data."""
    data = config.data
    crops = f"shares {data.crop_scale}, ratios {RATIO}, bicubic"  # for stored images
    if data.flip or data.colour:
        crops += f", mirrored {data.flip}, colours {data.colour}"
    return {
        **key_of(config),
        "image weights": tensors_hash(model.image_tower.frozen_weights()),
        "crop": crops,
        "data digest": source.digest(),
        "pairs": len(source),
    }


def connect_loader(
    config: Experiment,
    model: DualEncoder,
    data: ImageTextDataModule,
    nouns: NounList | None,
) -> None:
    """Set up the loading processes to tokenise captions, to read what the auxiliary losses need,
    and to read the cached features of ``data.features``.

    Raises:
        ConfigError: the cache is incomplete, or was made for other weights, data, keys or shapes.
            The message names each difference.
    """
    data.pairs.read_captions = caption_reader(model, nouns)
    if config.data.features is None:
        return
    assert config.data.crops is not None
    folder, source = Path(config.data.features).expanduser(), data.source
    cache = Description.read(folder)
    cache.check(folder, whole_key(config, model, source))
    shapes = {IMAGES: (cache.stored, (cache.written, *cache.shape))}
    if (folder / SUMS).exists():  # caches of older versions have no such file
        shapes[SUMS] = ("uint32", (cache.written,))
    for name, (kind, shape) in shapes.items():
        values = map_array(folder / name)
        if (str(values.dtype), values.shape) != (kind, shape):
            why = f"holds {values.dtype} {values.shape}, and {FILE} says {kind} {shape}"
            refuse("data.features", folder, f"{name} {why}; make it again by `gestalt features`")
    data.pairs.features = CachedImages(
        cache, folder, side=train_size(config.image), crops=config.data.crops, pairs=len(source)
    )


@dataclass
class CachedImages:
    """Cached features of images, indexed by (epoch, index).

    Attributes:
        cache, folder: description and folder of the cache.  Row c * pairs + i has crop c of image
            i.
        side: image side, S.
        crops: number of crops of each image.
        pairs: number of images.
    """

    cache: Description
    folder: Path
    side: int
    crops: int
    pairs: int

    def _row(self, key: Key) -> int:
        epoch, index = key
        return epoch % self.crops * self.pairs + index

    def about(self) -> dict[str, Any]:
        """Return the number of crops, the number of bad crops, and the number format of the
        files.
        """
        return {"crops": self.crops, "bad": len(self.cache.bad), "stored": self.cache.stored}

    def bad(self, key: Key) -> BadSample | None:
        """Return the reason why an image could not be read; None if it was read."""
        fault = self.cache.bad.get(str(self._row(key)))
        return None if fault is None else BadSample(fault[0], where=fault[1], key=fault[2])

    def read(self, keys: Sequence[Key]) -> Tensor:
        """Return the features of images, in the number format in which they were computed.

        Raises:
            ValueError: the features cannot be read, or differ from their checksum.
        """
        numbers = [self._row(key) for key in keys]
        rows = map_array(self.folder / IMAGES)[numbers]
        if (self.folder / SUMS).exists():
            found = [crc32(row) for row in rows]
            sums = map_array(self.folder / SUMS)[numbers]
            for number, one, other in zip(numbers, found, sums, strict=True):
                if one != other:
                    raise ValueError(
                        f"{self.folder / IMAGES}: row {number} is damaged: its checksum differs; "
                        "copy the cache again, or make it again by `gestalt features`"
                    )
        return torch.from_numpy(rows).to(getattr(torch, self.cache.computed))


def _read_crops(rows: range, *, source: Source, size: int) -> tuple[Tensor, dict[str, list[str]]]:
    """Read the images of consecutive cache rows, (B, 3, S, S) uint8.  Bad images are black.

    Returns the images, and row -> the reason, the file and the key of each bad image.
    """
    images = torch.zeros(len(rows), 3, size, size, dtype=torch.uint8)
    bad = {}
    for number, row in enumerate(rows):
        crop, index = divmod(row, len(source))
        try:
            images[number] = source.image(index, crop)
        except BadSample as fault:
            bad[str(row)] = [fault.reason, fault.where, fault.key]
    return images, bad


BATCH = 64
"""Number of images that are encoded together."""

SAVED_BYTES = 2**28
"""Maximum number of bytes that a stopped command has to write again: progress is noted after this
many.
"""

SPARE_BYTES = 2**26
"""Number of bytes to leave free on the disk."""


def make_cache(config: Experiment, folder: Path, *, stored: str, only_check: bool = False) -> None:
    """Write the features of the run's training pairs to a folder.  ``features.json`` says when the
    cache is complete.

    Raises:
        ValueError: the configuration cannot run, the folder contains other files, or the disk has
            too little free space.
    """
    check_alone("gestalt features uses")
    check_names(config)
    check_machine(config.trainer)
    keep_freed_memory()
    source = build_source(config)
    if source.in_sequence:
        refuse(
            "data.source",
            config.data.source,
            "it can only be read in sequence, and a cache is read by number; choose another",
        )
    model = build_model(config).eval()
    key = whole_key(config, model, source)
    if only_check:
        Description.read(folder).check(folder, key)
        tell(f"{folder}: complete, and made for this run")
        return
    fabric = Fabric(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,  # type: ignore[arg-type]
    )
    model = fabric.strategy.precision.convert_module(model).to(fabric.device)  # type: ignore[assignment]
    pairs = len(source)

    @torch.no_grad()
    def encode(images: Tensor, rows: range) -> Tensor:
        """Return the features of images, (B, 3, S, S) uint8, as a training step computes them. Row
        c * pairs + i is crop c of image i.
        """
        height, width = model.image_tower.grid(*images.shape[-2:])
        number = torch.tensor(rows)
        keep = None
        total = height * width
        share = kept_share(config.image)
        if share < 1:
            keep = keep_indices(
                number % pairs,
                number // pairs,
                seed=config.seed,
                total=total,
                kept=kept_tokens(total, share),
            ).to(fabric.device)
        with fabric.autocast():
            return model.image_tower.features(images.to(fabric.device), keep)

    size = train_size(config.image)
    probe = encode(torch.zeros(1, 3, size, size, dtype=torch.uint8), range(1))
    wanted = Description(
        key, stored, list(probe.shape[1:]), str(probe.dtype).removeprefix("torch.")
    )
    busy = f"{folder}: another process is writing this cache; wait, or choose another --to"
    with locks.hold(folder / ".lock", busy):
        description = _write(folder, _open_description(folder, wanted), source, config, encode)
    bad = f"{len(description.bad):,} of {description.written:,} images are bad; "
    tell(f"{folder}: complete; {bad if description.bad else ''}train with data.features={folder}")


def _open_description(folder: Path, wanted: Description) -> Description:
    """Return the description of the cache to continue, or of a new cache.  A folder with other
    files or with another cache is refused.
    """
    # A killed command leaves *.partial files behind.
    others = [
        path.name for path in folder.iterdir() if path.name != ".lock" and path.suffix != ".partial"
    ]
    if not others:
        return wanted
    if FILE not in others:
        raise ConfigError(
            f"--to {folder}: holds {others[0]} but no cache; choose an empty or a new folder"
        )
    cached = Description.read(folder)
    found = cached.differences(wanted.key)
    if cached.stored != wanted.stored:
        found.append(f"--dtype is {wanted.stored}, but the cache has {cached.stored}")
    if found:
        raise ConfigError(
            f"--to {folder}: a different cache: {'; '.join(found)}; choose another folder"
        )
    return cached


def _write(
    folder: Path,
    description: Description,
    source: Source,
    config: Experiment,
    encode: Callable[[Tensor, range], Tensor],
) -> Description:
    """Write the remaining features, unless the disk has too little free space.  Returns the
    description of the complete cache.
    """
    assert config.data.crops is not None
    count = config.data.crops * len(source)
    first = description.written
    start = time.monotonic()
    row_bytes = prod(description.shape) * np.dtype(description.stored).itemsize
    needed = (count - first) * row_bytes + SPARE_BYTES
    free = free_bytes(folder)
    described = f"{count:,} images of {' x '.join(map(str, description.shape))}"
    tell(
        f"{folder}: {count * row_bytes / 2**30:.2f} GiB of {description.stored}: {described}; "
        f"{free / 2**30:.1f} GiB are free"
    )
    if needed > free and first < count:
        raise ConfigError(
            f"--to {folder}: {needed / 2**30:.2f} GiB more are needed and {free / 2**30:.2f} GiB "
            "are free; choose another disk, --dtype float16, fewer data.crops or a smaller image"
        )
    description.write(folder)  # first, since a folder with rows alone is refused
    # An incomplete cache of an older version has no checksums for its rows.
    summed = first > 0 and (folder / SUMS).exists()
    file, sums = (
        np.lib.format.open_memmap(folder / name, mode, dtype, shape=(count, *shape))
        for name, mode, dtype, shape in (
            (IMAGES, "r+" if first else "w+", description.stored, description.shape),
            (SUMS, "r+" if summed else "w+", "uint32", ()),
        )
    )
    if not summed:
        sums[:first] = [crc32(row) for row in file[:first]]
    spans = [range(number, min(number + BATCH, count)) for number in range(first, count, BATCH)]
    each = max(1, SAVED_BYTES // (BATCH * row_bytes))
    loaded: DataLoader[Any] = DataLoader(
        spans,  # type: ignore[arg-type]  # a list stands in for a data set
        batch_size=None,
        num_workers=loading_processes(config),
        collate_fn=partial(_read_crops, source=source, size=train_size(config.image)),
        worker_init_fn=leave_group,
    )
    for number, (span, (images, faults)) in enumerate(zip(spans, loaded, strict=True), start=1):
        features = encode(images, span)
        features[[int(row) - span.start for row in faults]] = 0
        rows = np.ascontiguousarray(as_stored(features, description.stored))
        file[span.start : span.stop] = rows
        sums[span.start : span.stop] = [crc32(row) for row in rows]
        description = replace(
            description,
            written=span.stop,
            bad=description.bad | faults,
            complete=span.stop == count,
        )
        if number % each == 0 or description.complete:
            file.flush()
            sums.flush()
            description.write(folder)
            tell(
                f"images: {span.stop:,} of {count:,}, "
                f"{(span.stop - first) / (time.monotonic() - start):.1f} a second"
            )
    return description


def as_stored(values: Tensor, stored: str) -> Any:
    """Convert the output of a tower to an array for the file.

    Raises:
        ValueError: the number format cannot represent a value.
    """
    array = values.detach().float().cpu().numpy().astype(stored)
    if not np.isfinite(array).all():
        raise ValueError(
            f"the tower's output has a number that {stored} cannot hold; choose --dtype float32, "
            "and check the weights"
        )
    return array
