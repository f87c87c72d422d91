"""Cache the features that a run's frozen image tower computes for its training pairs."""

import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.data_modules.sources import Source
from gestalt.encoders.keys import train_size
from gestalt.models.building import check_names
from gestalt.models.start import build_model
from gestalt.runs import locks
from gestalt.runs.cache_key import FILE, IMAGES, SUMS, Description, kept_share
from gestalt.runs.features import load_crops, whole_key
from gestalt.runs.source import build_source
from gestalt.runs.trial import check_alone
from gestalt.runs.workers import loading_processes
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.files import free_bytes
from gestalt.support.keys import refuse
from gestalt.support.memory import keep_freed_memory
from gestalt.support.ranks import tell
from gestalt.support.typed import ConfigError
from gestalt.training.machine import check_machine

BATCH = 64
"""Number of images that are encoded together."""

SAVED_BYTES = 2**28
"""Bytes of images between notes of what is written; a stopped command repeats at most so many."""

SPARE_BYTES = 2**26
"""Bytes to leave free on the disk."""


def make_cache(config: Experiment, folder: Path, *, stored: str, only_check: bool = False) -> None:
    """Write the features of the run's training pairs into a folder, which is complete when
    ``features.json`` says so.

    Raises:
        ValueError: the configuration cannot run, the folder holds something else, or the disk lacks
            room.
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
        """Return the features of images (B, 3, S, S) uint8, as the run's steps compute them, given
        their rows: crop c of image i is row c * pairs + i.
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
    """Return the description of a cache to continue, or of a new one; refuse a folder with other
    files, or with another cache.
    """
    # A killed command leaves *.partial.
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
    """Write the images that are not written yet, unless the disk cannot hold them.  Returns the
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
    mode = "r+" if first else "w+"
    file, sums = (
        np.lib.format.open_memmap(folder / name, mode, dtype, shape=(count, *shape))
        for name, dtype, shape in (
            (IMAGES, description.stored, description.shape),
            (SUMS, "uint32", ()),
        )
    )
    spans = [range(number, min(number + BATCH, count)) for number in range(first, count, BATCH)]
    each = max(1, SAVED_BYTES // (BATCH * row_bytes))
    bad = dict(description.bad)
    loaded = load_crops(
        spans, source=source, size=train_size(config.image), workers=loading_processes(config)
    )
    for number, (span, (images, faults)) in enumerate(zip(spans, loaded, strict=True), start=1):
        features = encode(images, span)
        features[[int(row) - span.start for row in faults]] = 0
        rows = np.ascontiguousarray(as_stored(features, description.stored))
        file[span.start : span.stop] = rows
        sums[span.start : span.stop] = [crc32(row) for row in rows]
        bad |= faults
        if number % each == 0 or number == len(spans):
            file.flush()
            sums.flush()
            description = replace(
                description, written=span.stop, bad=bad, complete=span.stop == count
            )
            description.write(folder)
            tell(
                f"images: {span.stop:,} of {count:,}, "
                f"{(span.stop - first) / (time.monotonic() - start):.1f} a second"
            )
    return description


def as_stored(values: Tensor, stored: str) -> Any:
    """Convert a tower's output into an array for the file.

    Raises:
        ValueError: the format cannot hold a number.
    """
    array = values.detach().float().cpu().numpy().astype(stored)
    if not np.isfinite(array).all():
        raise ValueError(
            f"the tower's output has a number that {stored} cannot hold; choose --dtype float32, "
            "and check the weights"
        )
    return array
