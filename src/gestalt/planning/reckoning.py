"""Arithmetic of a plan: memory and time of a whole run from those of a few steps.  Bytes, seconds, images a second."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

SPARE = 0.05
"""Share of the memory that is left free: allocators keep more than they use."""

AHEAD = 1.2
"""Recommended speed of the loading processes over that of the device; above 1, since both vary."""

WAITING = 0.05
"""Largest share of a step's time that may be spent waiting for data."""


class Line(NamedTuple):
    """Bytes as a function of batch size: ``fixed``, and ``each`` for every pair."""

    fixed: float
    each: float

    def at(self, batch: int) -> float:
        """Return the bytes of a batch."""
        return self.fixed + self.each * batch


def fitted(points: Mapping[int, float], *, least: float = 0.0) -> Line:
    """Return the line through the smallest and the largest batch size that were measured, no flatter than ``least`` bytes a pair.

    A process's memory does not shrink, so that a small batch after a large one shows no growth; ``least``, which was counted, then holds.
    """
    small, large = min(points), max(points)
    each = (points[large] - points[small]) / (large - small) if large > small else points[large] / large
    each = max(each, least, 0.0)
    return Line(points[large] - each * large, each)


class Held(NamedTuple):
    """The similarities that a loss holds at one time.

    Attributes:
        block: largest number of them; None for all.
        rows: images that are compared at once, in place of a block's; None for as many as a block has.
    """

    block: int | None = None
    rows: int | None = None

    def at(self, batch: int, *, texts: int) -> int:
        """Return their number for a batch of images against a number of texts."""
        whole = batch * texts
        if self.block is None:
            return whole
        return min(whole, self.block if self.rows is None else self.rows * texts)


@dataclass(frozen=True)
class Memory:
    """Memory of one device in a step.

    Attributes:
        kept: part -> bytes that do not depend on the batch: weights, gradients and so on.
        activations: bytes that are kept for the backward pass, by batch size of this device.
        peak: the most bytes that were in use, by batch size, without those of the loss.
        pair: bytes of the loss for one image against one text.
        ranks: devices, whose texts are all compared with this one's images.
        held: the pairs that are compared at one time.
    """

    kept: Mapping[str, int]
    activations: Line
    peak: Line
    pair: float
    ranks: int
    held: Held

    def loss(self, batch: int) -> float:
        """Return the bytes of the loss of this device's batch against those of all devices."""
        return self.pair * self.held.at(batch, texts=batch * self.ranks)

    def total(self, batch: int) -> float:
        """Return the most bytes in use at a batch size of this device."""
        return self.peak.at(batch) + self.loss(batch)

    def parts(self, batch: int) -> dict[str, float]:
        """Return part -> bytes, which sum to the total; what was not counted is ``other``."""
        counted = {**self.kept, "activations": self.activations.at(batch), "loss": self.loss(batch)}
        return {**counted, "other": max(0.0, self.total(batch) - sum(counted.values()))}

    def largest(self, room: float) -> int:
        """Return the largest batch of one device that fits into some bytes, with ``SPARE`` of them left; 0 if none does."""
        fits, beyond = 0, 1
        room *= 1 - SPARE
        while self.total(beyond) <= room and beyond < 2**24:
            fits, beyond = beyond, 2 * beyond
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            fits, beyond = (middle, beyond) if self.total(middle) <= room else (fits, middle)
        return fits


class Loading(NamedTuple):
    """The speed of loading and that of the device.

    Attributes:
        one: images a second of one loading process.
        device: images a second of one device that never waits.
        cores: cores of this machine, for one device.
    """

    one: float
    device: float
    cores: int

    @property
    def wanted(self) -> int:
        """The number of loading processes that keep ahead of the device."""
        return max(1, math.ceil(AHEAD * self.device / self.one))

    @property
    def recommended(self) -> int:
        """The number wanted, as far as there are cores."""
        return min(self.wanted, self.cores)


class Validation(NamedTuple):
    """Seconds of a validation.

    Attributes:
        fixed: seconds of each validation beside its batches, such as for embedding the classes.
        batches: number of batches of each set on one device.
        each: seconds of a batch of each set.
    """

    fixed: float
    batches: tuple[int, ...]
    each: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.fixed + sum(count * each for count, each in zip(self.batches, self.each, strict=True))


class Run(NamedTuple):
    """The length of a run: steps, validations, and the seconds of one of each."""

    steps: int
    step: float
    validations: int
    validation: float

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.steps * self.step + self.validations * self.validation


def validations(steps: int, *, epoch: int, every: int) -> int:
    """Return the number of validations of a run: one after each ``every`` epochs, and one of the final weights."""
    return steps // (epoch * every) + bool(steps % (epoch * every))


def checkpoint_bytes(kept: Mapping[str, int]) -> int:
    """Return the size of a checkpoint: all that a step keeps except the gradients."""
    return sum(size for part, size in kept.items() if part != "gradients")


def amount(size: float) -> str:
    """Format bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size / factor:,.{0 if size >= 100 * factor else 1}f} {unit}"
    return f"{size / 2**10:,.0f} KiB"


def duration(seconds: float) -> str:
    """Format seconds."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
