"""features: cache the features that a run's frozen towers compute for its training pairs."""

import time
from argparse import Namespace
from contextlib import AbstractContextManager
from dataclasses import replace
from math import prod
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
from gestalt.commands.process import quiet
from gestalt.commands.stopping import tell, until_stopped
from gestalt.commands.trial import check_alone
from gestalt.config.schema import ConfigError, Experiment, refuse
from gestalt.features.files import IMAGES, TEXTS, as_stored, open_rows, write_index
from gestalt.features.key import FILE, Description
from gestalt.loss import text_ids
from gestalt.model import DualEncoder
from gestalt.runs import locks
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.files import free_bytes
from gestalt.support.memory import keep_freed_memory
from gestalt.tokens import Tokens

BATCH = 64
"""Number of images or captions that are encoded together."""

KEPT = 2**28
"""Bytes of images between notes of what is written; a stopped command repeats at most so many."""

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


def run(arguments: Namespace) -> int:
    """Make or continue a cache; with ``--check`` only check that it is complete and made for this run."""
    return until_stopped(lambda: cache(arguments.config, Path(arguments.to), stored=arguments.dtype, only_check=arguments.check))


def cache(config: Experiment, folder: Path, *, stored: str, only_check: bool = False) -> None:
    """Write the features of the run's training pairs into a folder, which is complete when ``features.json`` says so.

    Raises:
        ValueError: the configuration cannot run, the folder holds something else, or the disk lacks room.
    """
    quiet()
    check_alone("gestalt features uses")
    check_names(config)
    check_machine(config)
    keep_freed_memory()
    source = build_source(config)
    if source.in_sequence:
        refuse("data.source", config.data.source, "it can only be read in sequence, and a cache is read by number; choose another")
    model = build_model(config).eval()
    epochs = epochs_begun(config, source, total_steps=steps(config, source)[1]) if config.text.frozen else 0
    image, text = whole_image_key(config, model, source), whole_text_key(config, model)
    if only_check:
        Description.read(folder).check(folder, image=image, text=text, epochs=epochs)
        tell(f"{folder}: complete, and made for this run")
        return
    fabric = Fabric(accelerator=config.trainer.accelerator, devices=1, precision=config.trainer.precision)  # type: ignore[arg-type]
    model = fabric.strategy.precision.convert_module(model).to(fabric.device)  # type: ignore[assignment]
    towers = Towers(model, fabric, config.image.keep_tokens if config.image.subsampling else 1.0, config.seed)
    size, pairs = train_size(config), len(source)
    probe = towers.images(torch.zeros(1, 3, size, size, dtype=torch.uint8), range(1), pairs=pairs)
    wanted = Description(image, text, epochs, stored, list(probe.shape[1:]), _name(probe.dtype))
    with locks.hold(folder / ".lock", busy=f"{folder}: another process is writing this cache; wait for it, or choose another --to"):
        begun = _begun(folder, wanted)
        texts = _captions(source, towers, epochs=epochs)
        _check_room(config, folder, begun, texts=texts, pairs=pairs)
        begun = _write_images(config, folder, begun, source=source, towers=towers)
        if texts is not None and not begun.complete:
            _write_texts(folder, texts, towers, stored=stored)
        replace(begun, complete=True).write(folder)
    bad = f"; {len(begun.bad):,} of {begun.written:,} images are bad" if begun.bad else ""
    tell(f"{folder}: complete{bad}; train with data.features={folder}")


def _begun(folder: Path, wanted: Description) -> Description:
    """Return the description of a cache to continue, or of a new one; refuse a folder with other files, or with another cache."""
    others = [path.name for path in folder.iterdir() if path.name != ".lock" and path.suffix != ".partial"]  # of a killed command
    if not others:
        return wanted
    if FILE not in others:
        raise ConfigError(f"--to {folder}: holds {others[0]} but no cache; choose an empty or a new folder")
    cached = Description.read(folder)
    found = cached.differences(image=wanted.image, text=wanted.text)
    if cached.stored != wanted.stored:
        found.append(f"--dtype is {wanted.stored}, but the cache has {cached.stored}")
    if cached.epochs != wanted.epochs:
        found.append(f"captions of {wanted.epochs} epochs are wanted, but the cache has {cached.epochs}")
    if found:
        raise ConfigError(f"--to {folder}: a different cache: {'; '.join(found)}; choose another folder")
    return cached


class Texts(NamedTuple):
    """The captions to cache, in the order of their rows, with their lengths in tokens, and the shape and number format of a row."""

    texts: list[str]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    summary: bool
    width: int
    computed: str

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int((self.lengths + self.summary).sum())


def _captions(source: Any, towers: Towers, *, epochs: int) -> Texts | None:
    """List the captions of the run's epochs, the shortest first, which are encoded with the least padding; None for no epoch."""
    if not epochs:
        return None
    texts = drawn_captions(source, epochs=epochs)
    if not texts:
        raise ConfigError(f"data.source: none of its {len(source):,} pairs has a caption that can be used")
    counts = {text: len(tokens) for text, tokens in zip(texts, towers.model.text_tower.tokenise(texts), strict=True)}
    texts.sort(key=lambda text: (counts[text], text))
    probe = towers.texts(texts[:1])
    lengths = np.array([counts[text] for text in texts], dtype=np.int64)
    return Texts(texts, lengths, probe.summary is not None, probe.parts.shape[-1], _name(probe.parts.dtype))


def _check_room(config: Experiment, folder: Path, begun: Description, *, texts: Texts | None, pairs: int) -> None:
    """Print the size of the cache, and refuse to begin what the disk cannot hold."""
    assert config.data.crops is not None
    count, item = config.data.crops * pairs, np.dtype(begun.stored).itemsize
    whole = count * prod(begun.shape) * item
    described = f"{count:,} images of {' x '.join(map(str, begun.shape))}"
    if texts is not None:
        whole += texts.rows * texts.width * item
        described += f", {len(texts.texts):,} captions of {texts.rows:,} tokens"
    needed, free = whole + SPARE - begun.written * prod(begun.shape) * item, free_bytes(folder)
    tell(f"{folder}: {whole / 2**30:.2f} GiB of {begun.stored}: {described}; {free / 2**30:.1f} GiB are free")
    if needed > free and not begun.complete:
        raise ConfigError(
            f"--to {folder}: {needed / 2**30:.2f} GiB more are needed and {free / 2**30:.2f} GiB are free; choose another disk, "
            "--dtype float16, fewer data.crops or a smaller image"
        )


def _write_images(config: Experiment, folder: Path, begun: Description, *, source: Any, towers: Towers) -> Description:
    """Write the images that are not written yet.  Returns the description with all of them."""
    assert config.data.crops is not None
    count, begin, first = config.data.crops * len(source), time.monotonic(), begun.written
    spans = [range(start, min(start + BATCH, count)) for start in range(first, count, BATCH)]
    each = KEPT // (BATCH * prod(begun.shape) * np.dtype(begun.stored).itemsize)
    begun.write(folder)  # first, since a folder with rows alone is refused
    file = open_rows(folder / IMAGES, stored=begun.stored, shape=(count, *begun.shape), resumed=first > 0)
    bad = dict(begun.bad)
    loaded = load_crops(spans, source=source, size=train_size(config), workers=loading_processes(config))
    for number, (span, (images, faults)) in enumerate(zip(spans, loaded, strict=True), start=1):
        features = towers.images(images, span, pairs=len(source))
        features[[int(row) - span.start for row in faults]] = 0
        file[span.start : span.stop] = as_stored(features, stored=begun.stored)
        bad |= faults
        if number % max(1, each) == 0 or number == len(spans):
            file.flush()
            begun = replace(begun, written=span.stop, bad=bad)
            begun.write(folder)
            tell(f"images: {span.stop:,} of {count:,}, {(span.stop - first) / (time.monotonic() - begin):.1f} a second")
    return begun


def _write_texts(folder: Path, texts: Texts, towers: Towers, *, stored: str) -> None:
    """Write the tokens of captions and their index."""
    ids = text_ids(texts.texts).numpy()
    firsts = write_index(folder, ids=ids, lengths=texts.lengths, summary=texts.summary, computed=texts.computed)
    file = open_rows(folder / TEXTS, stored=stored, shape=(texts.rows, texts.width))
    for start in range(0, len(texts.texts), BATCH):
        some = texts.texts[start : start + BATCH]
        tokens = towers.texts(some)
        for place in range(len(some)):
            number = start + place
            rows = tokens.parts[place, : texts.lengths[number]]
            if tokens.summary is not None:
                rows = torch.cat([tokens.summary[place, None], rows])
            file[firsts[number] : firsts[number + 1]] = as_stored(rows, stored=stored)
    file.flush()
    tell(f"captions: {texts.rows:,} tokens of {len(texts.texts):,} captions")


def _name(dtype: torch.dtype) -> str:
    """Return the name of a number format, such as float32."""
    return str(dtype).removeprefix("torch.")
