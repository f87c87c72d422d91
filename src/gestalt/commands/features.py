"""features: cache the features that a run's frozen towers compute for its training pairs."""

import os
import time
from argparse import Namespace
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from gestalt.building.features import drawn_captions, epochs_begun, load_crops, whole_image_key, whole_text_key
from gestalt.building.model import build_model, check_machine, check_names
from gestalt.building.source import build_source, steps, train_size
from gestalt.building.workers import loading_processes
from gestalt.commands.plan import check_alone
from gestalt.commands.process import quiet
from gestalt.commands.stopping import tell, until_stopped
from gestalt.config.schema import ConfigError, Experiment, refuse
from gestalt.features.key import FILE, Description, differences, refuse_differences, text_differences
from gestalt.features.making import bad_images, missing_images, name_of, write_images, write_texts
from gestalt.features.rows import Rows
from gestalt.features.texts import Index
from gestalt.loss import text_ids
from gestalt.model import DualEncoder
from gestalt.planning.machine import disk_room
from gestalt.runs import locks
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.memory import keep_freed_memory
from gestalt.tokens import Tokens

BATCH = 64
"""Largest number of images that are encoded together."""

SPARE = 2**26
"""Bytes to leave free on the disk."""


class Towers(NamedTuple):
    """The towers of a run as its steps run them.

    Attributes:
        model: on its device.
        fabric: device and number format.
        keep_share: share of the patch tokens that an image keeps.
        seed: seed of the run.
    """

    model: DualEncoder
    fabric: Fabric
    keep_share: float
    seed: int

    def format(self) -> AbstractContextManager[Any]:
        """Return the context of a step's number format."""
        return self.fabric.strategy.precision.forward_context()

    @torch.no_grad()
    def images(self, images: Tensor, rows: range, *, pairs: int) -> Tensor:
        """Return the features of images (B, 3, S, S) uint8, whose rows are crop * pairs + index."""
        tower = self.model.image_tower
        height, width = tower.grid(images.shape[-2], images.shape[-1])
        number = torch.tensor(rows)
        keep = None
        if self.keep_share < 1:
            kept = kept_tokens(height * width, self.keep_share)
            keep = keep_indices(number % pairs, number // pairs, seed=self.seed, total=height * width, kept=kept).to(self.fabric.device)
        with self.format():
            return tower.features(images.to(self.fabric.device), keep)

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tokens:
        """Return the text tower's tokens of captions."""
        with self.format():
            tokens: Tokens = self.model.text_tower(texts)
        return tokens


class Texts(NamedTuple):
    """The captions to cache, in the order of their rows, with their hashes and lengths and the layout of the rows."""

    texts: list[str]
    listed: Index
    rows: Rows


def run(arguments: Namespace) -> int:
    """Make or continue a cache; with ``--check`` only check that it is complete and made for this run."""
    return until_stopped(lambda: cache(arguments.config, Path(arguments.to), stored=arguments.dtype, only_check=arguments.check))


def cache(config: Experiment, folder: Path, *, stored: str, only_check: bool = False) -> None:
    """Write the features of the run's training pairs into a folder, which is complete when ``features.json`` says so.

    Raises:
        ValueError: the configuration cannot run, the folder holds something else, or the disk lacks room.
    """
    quiet()
    check_alone(os.environ, what="gestalt features uses")
    check_names(config)
    check_machine(config.trainer)
    keep_freed_memory()
    source = build_source(config)
    if source.in_sequence:
        refuse("data.source", config.data.source, "it can only be read in sequence, and a cache is read by number; choose another")
    model = build_model(config).eval()
    epochs = epochs_begun(config, source, total_steps=steps(config, source)[1]) if config.text.frozen else 0
    wanted = Description(whole_image_key(config, model, source), whole_text_key(config, model), epochs, {}, None, complete=False)
    if only_check:
        tell(_checked(folder, wanted))
        return
    fabric = Fabric(accelerator=config.trainer.accelerator, devices=1, precision=config.trainer.precision)  # type: ignore[arg-type]
    model = fabric.strategy.precision.convert_module(model).to(fabric.device)  # type: ignore[assignment]
    towers = Towers(model, fabric, config.image.keep_tokens if config.image.subsampling else 1.0, config.seed)
    with locks.hold(folder / ".lock", busy=f"{folder}: another process is writing this cache; wait for it, or choose another --to"):
        _refuse_other(folder, wanted, stored=stored)
        _make(config, folder, source, towers=towers, wanted=wanted, stored=stored)


def _checked(folder: Path, wanted: Description) -> str:
    cached = Description.read(folder)
    found = differences(cached.image, wanted.image) + text_differences(cached, wanted.text)
    if wanted.text and cached.text and cached.epochs < wanted.epochs:
        found.append(f"the run draws captions of {wanted.epochs} epochs, but the cache has {cached.epochs}")
    refuse_differences(folder, found)
    rows = [Rows.read(record) for record in (cached.image_rows, cached.text_rows) if record is not None]
    missing = sum(len(part.missing(folder)) for part in rows)
    if missing or not cached.complete:
        refuse("data.features", folder, f"not complete ({missing} files are missing); the same command without --check completes it")
    return f"{folder}: complete, and made for this run"


def _refuse_other(folder: Path, wanted: Description, *, stored: str) -> None:
    """Refuse a folder with other files, or with a cache of something else."""
    others = [path.name for path in folder.iterdir() if path.name != ".lock" and path.suffix != ".partial"]  # of a killed command
    if others and FILE not in others:
        raise ConfigError(f"--to {folder}: holds {others[0]} but no cache; choose an empty or a new folder")
    if not others:
        return
    cached = Description.read(folder)
    found = differences(cached.image, wanted.image) + text_differences(cached, wanted.text)
    if cached.image_rows["stored"] != stored:
        found.append(f"--dtype is {stored}, but the cache has {cached.image_rows['stored']}")
    if cached.text != wanted.text or cached.epochs != wanted.epochs:
        found.append(f"captions of {wanted.epochs} epochs are wanted, but the cache has {cached.epochs}")
    if found:
        raise ConfigError(f"--to {folder}: a different cache: {'; '.join(dict.fromkeys(found))}; choose another folder")


def _make(config: Experiment, folder: Path, source: Any, *, towers: Towers, wanted: Description, stored: str) -> None:
    assert config.data.crops is not None
    size, pairs = train_size(config.image), len(source)
    probe = towers.images(torch.zeros(1, 3, size, size, dtype=torch.uint8), range(1), pairs=pairs)
    count = config.data.crops * pairs
    rows = Rows.planned("image", count, shape=probe.shape[1:], stored=stored, computed=name_of(probe.dtype))
    texts = _captions(source, towers=towers, epochs=wanted.epochs, stored=stored) if wanted.epochs else None
    wanted = replace(wanted, image_rows=rows.record(), text_rows=None if texts is None else texts.rows.record())
    _check_room(folder, rows, texts)
    wanted.write(folder)
    begin, done = time.monotonic(), 0
    load = partial(load_crops, source=source, size=size, workers=loading_processes(config))
    left = sum(len(rows.span(shard)) for shard in missing_images(rows, folder))
    for written in write_images(rows, folder, load=load, encode=partial(towers.images, pairs=pairs), batch=min(BATCH, rows.each)):
        done += written
        tell(f"images: {count - left + done:,} of {count:,}, {done / (time.monotonic() - begin):.1f} a second")
    begin = time.monotonic()
    if texts is not None:
        for _ in write_texts(texts.rows, folder, texts=texts.texts, index=texts.listed, encode=towers.texts):
            tell(f"captions: {texts.rows.count:,} tokens of {len(texts.texts):,} captions, {time.monotonic() - begin:.0f} s")
    replace(wanted, complete=True).write(folder)
    bad = len(bad_images(rows, folder))
    tell(f"{folder}: complete{f'; {bad:,} of {count:,} images are bad' if bad else ''}; train with data.features={folder}")


def _captions(source: Any, *, towers: Towers, epochs: int, stored: str) -> Texts:
    """List the captions of the run's epochs, the shortest first, which are encoded with the least padding."""
    tower, texts = towers.model.text_tower, drawn_captions(source, epochs=epochs)
    if not texts:
        raise ConfigError(f"data.source: none of its {len(source):,} pairs has a caption that can be used")
    lengths = [len(tokens) for tokens in tower.tokenise(texts)]
    order = sorted(range(len(texts)), key=lambda number: (lengths[number], texts[number]))
    probe = towers.texts(texts[:1])
    texts = [texts[number] for number in order]
    index = Index(text_ids(texts).numpy(), np.array(sorted(lengths), dtype=np.int64), summary=int(probe.summary is not None))
    computed = name_of(probe.parts.dtype)
    rows = Rows.planned("text", int(index.firsts[-1]), shape=probe.parts.shape[2:], stored=stored, computed=computed)
    return Texts(texts, index, rows)


def _check_room(folder: Path, rows: Rows, texts: Texts | None) -> None:
    """Print the size of the cache, and refuse to begin what the disk cannot hold."""
    parts = [rows] if texts is None else [rows, texts.rows]
    whole = sum(part.bytes for part in parts)
    needed = sum(len(part.span(shard)) * part.row_bytes for part in parts for shard in part.missing(folder)) + SPARE
    free = disk_room(folder)
    described = f"{rows.count:,} images of {' x '.join(map(str, rows.shape))}"
    described += "" if texts is None else f", {len(texts.texts):,} captions of {texts.rows.count:,} tokens"
    tell(f"{folder}: {whole / 2**30:.2f} GiB of {rows.stored}: {described}; {free / 2**30:.1f} GiB are free")
    if needed > free:
        raise ConfigError(
            f"--to {folder}: {needed / 2**30:.2f} GiB more are needed and {free / 2**30:.2f} GiB are free; choose another disk, "
            "--dtype float16, fewer data.crops or a smaller image"
        )
