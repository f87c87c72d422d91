"""The lines of a plan: each is ok, or names what would go wrong and the fix."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gestalt.building.workers import loading_processes
from gestalt.config.schema import Experiment
from gestalt.planning.flops import operations
from gestalt.planning.probes import Step
from gestalt.planning.reckoning import WAITING, Loading, Memory, Run, amount, checkpoint_bytes, duration
from gestalt.results.record import device_name

CHECKPOINTS = 3
"""Checkpoints that lie in a run's folder at one time: the last, the best, and one that is being written."""


@dataclass(frozen=True)
class Planned:
    """Measurements of a few steps, and facts of the run that they stand for.

    Attributes:
        config: configuration of the run.
        device: the device of the steps.
        ranks: number of devices of the run.
        batch: pairs of one device.
        timed: the timed steps; empty if no pair fits the memory.
        memory: memory of a step.
        flop: FLOP of a step with the pairs of all devices; 0 if they were not counted.
        refused: the smallest batch that ran out of memory; 0 if none did.
        room: bytes of memory of one device.
        loading: speed of loading and of the device.
        run: steps and validations with their seconds.
        disk: free bytes.
        bad: number of drawn pairs that cannot be read.
        drawn: number of drawn pairs.
        unmade: True if the init must be pretrained first.
    """

    config: Experiment
    device: torch.device
    ranks: int
    batch: int
    timed: Sequence[Step]
    memory: Memory
    flop: int
    refused: int
    room: float
    loading: Loading
    run: Run
    disk: int
    bad: int
    drawn: int
    unmade: bool

    @property
    def largest(self) -> int:
        """The largest batch of one device."""
        fits = self.memory.largest(self.room)
        return min(fits, self.refused - 1) if self.refused else fits

    @property
    def waiting(self) -> float:
        """The share of the timed steps that waited for data."""
        return sum(step.waited for step in self.timed) / sum(step.waited + step.computed for step in self.timed)

    @property
    def in_folder(self) -> int:
        """The bytes of a run's folder at its fullest."""
        return CHECKPOINTS * checkpoint_bytes(self.memory.kept)

    @property
    def status(self) -> int:
        """1 if the run would stop for want of memory or disk."""
        return int(self.largest < self.batch or self.in_folder > self.disk)


def lines(planned: Planned) -> list[str]:
    """Return the lines, in the order in which a run meets their causes."""
    config = planned.config
    measured = f"{len(planned.timed)} steps on {device_name(planned.device)}, one process"
    head = f"plan of {config.name} at scale {config.scale}: {measured}; nothing is written"
    parts = (_init, _data, _memory, _largest, _compute, _speed, _waiting, _checkpoints, _time)
    return [head, *(line for part in parts for line in part(planned))]


def _ok(text: str) -> list[str]:
    return [f"ok    {text}"]


def _mend(text: str, mend: str) -> list[str]:
    return [f"fix   {text}; {mend}"]


def _init(planned: Planned) -> list[str]:
    if not planned.unmade:
        return []
    init, scale = planned.config.image.init, planned.config.scale
    return _mend(
        f"init: {init} is pretrained first, which the time below leaves out", f"run gestalt pretrain --init {init} --scale {scale}"
    )


def _data(planned: Planned) -> list[str]:
    counted = f"data: {planned.bad} of {planned.drawn} pairs cannot be read"
    return _mend(counted, f"run gestalt data inspect {planned.config.data.source}, which names them") if planned.bad else _ok(counted)


def _memory(planned: Planned) -> list[str]:
    parts = planned.memory.parts(planned.batch)
    listed = ", ".join(f"{part} {amount(size)}" for part, size in parts.items() if size >= 2**10)
    total = planned.memory.total(planned.batch)
    text = f"memory: {amount(total)} of {amount(planned.room)} for {planned.batch:,} pairs a device ({listed})"
    return _ok(text) if planned.largest >= planned.batch else _mend(text, _smaller(planned))


def _smaller(planned: Planned) -> str:
    """Return the mends of a batch that does not fit."""
    if not planned.largest:
        return "not even one pair fits: choose a smaller model or image, or a device with more memory"
    choices = [_fitting(planned)] if planned.largest * planned.ranks > 1 else []
    choices += [] if planned.config.image.gradient_checkpointing else ["image.gradient_checkpointing=true"]
    return f"choose {', '.join([*choices, 'a smaller image or more devices'])}"


def _fitting(planned: Planned) -> str:
    """Return the keys of the largest step that fits, with the same number of pairs on every device, at least one."""
    each = planned.largest // planned.config.trainer.accumulate_grad_batches
    if each:
        return f"data.batch_size={each * planned.ranks}"
    return f"data.batch_size={planned.ranks} with trainer.accumulate_grad_batches={planned.largest}"


def _largest(planned: Planned) -> list[str]:
    whole = f", {planned.largest * planned.ranks:,} on {planned.ranks} devices" if planned.ranks > 1 else ""
    text = f"largest batch: {planned.largest:,} pairs a device{whole}, by a line through two sizes"
    return _ok(text) if planned.largest >= planned.batch else []


def _compute(planned: Planned) -> list[str]:
    """Return the line on the arithmetic of the run, of which elementwise operations and the optimiser are no part."""
    if not planned.flop:
        return _ok("compute: not counted, since no pair can be read or six pairs do not fit the memory")
    whole = operations(planned.run.steps * planned.flop)
    return _ok(f"compute: {operations(planned.flop)} a step, {whole} to the end (matrix products, convolutions and attention)")


def _speed(planned: Planned) -> list[str]:
    if not planned.timed:
        return _mend("speed: not measured", "no pair fits the memory")
    rate = planned.batch / planned.run.step
    whole = f"; {rate * planned.ranks:,.0f} on {planned.ranks} devices if their exchange takes no time" if planned.ranks > 1 else ""
    how = "" if planned.config.trainer.compile == "none" else f", not compiled as trainer.compile={planned.config.trainer.compile} will"
    return _ok(f"speed: {rate:,.1f} images/s of one device, {planned.run.step:.3g} s a step{whole}{how}")


def _waiting(planned: Planned) -> list[str]:
    if not planned.timed:
        return []
    loading, workers, share = planned.loading, loading_processes(planned.config), planned.waiting
    first = "loading starves the device" if share > WAITING else "the device is the bottleneck"
    rates = f"a loading process gives {loading.one:,.1f} images/s, the device takes {loading.device:,.1f}"
    text = f"waiting for data: {share:.0%} of the time with data.workers={workers}; {rates}: {first}"
    if share <= WAITING:
        return _ok(text)
    if workers < loading.recommended:
        return _mend(text, f"choose data.workers={loading.recommended} of {loading.cores} cores a device")
    if loading.wanted > loading.cores:
        return _mend(text, f"{loading.wanted} loading processes are wanted and a device has {loading.cores} cores; store smaller images")
    return _mend(text, "more loading processes do not help: the storage is slow, or the cores are taken")


def _checkpoints(planned: Planned) -> list[str]:
    each = checkpoint_bytes(planned.memory.kept)
    text = f"checkpoints: {amount(each)} each, {amount(planned.in_folder)} a run at most (last, best, one while it is written)"
    text += f"; {amount(planned.disk)} are free"
    return _ok(text) if planned.in_folder <= planned.disk else _mend(text, "free some space, or start the run in another folder")


def _time(planned: Planned) -> list[str]:
    run = planned.run
    if not planned.timed:
        return []
    each = f"{run.steps:,} steps of {run.step:.3g} s"
    times = f"{run.validations:,} validation{'s' if run.validations != 1 else ''}"
    scored = f" and {times} of {duration(run.validation)}" if run.validation else ", without validation"
    text = f"time: {duration(run.seconds)} to the end, {each}{scored}"
    longest = planned.config.trainer.max_time
    if longest is not None:
        days, hours, minutes, seconds = map(int, longest.split(":"))
        limit = 86_400 * days + 3_600 * hours + 60 * minutes + seconds
        if limit < run.seconds:
            return _mend(f"{text}; trainer.max_time={longest} ends it before", "choose a longer one, or fewer steps")
    return _ok(text)
