"""train --plan: take a few real steps, and print what the whole run takes.  No file is written."""

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gestalt.building.source import pairs_a_step, steps
from gestalt.building.workers import loading_processes, usable_cores
from gestalt.commands.equal_cost import format_flop
from gestalt.commands.train import prepare
from gestalt.commands.trial import Trial, build_trial, check_alone, init_is_missing, read_pairs, repeated, step_flop
from gestalt.config.schema import Experiment, refuse
from gestalt.ledger.record import device_name
from gestalt.ledger.text import span
from gestalt.support.files import free_bytes

STEPS, WARMUP = 20, 2
"""Steps that are timed, at most, and steps before them."""

SECONDS = 40.0
"""Seconds after which no further step is taken."""

VALIDATED = 3
"""Batches of each validation set that are scored."""

SPARE = 0.05
"""Share of the memory to leave free: allocators keep more than they use."""

WAITING = 0.05
"""Largest share of a step's time that may be spent waiting for data."""

AHEAD = 1.2
"""Recommended speed of the loading processes over that of the device; above 1, since both vary."""

CHECKPOINTS = 3
"""Checkpoints that lie in a run's folder at one time: the last, the best, and one that is being written."""


@dataclass(frozen=True)
class Plan:
    """Measurements of a few steps, and facts of the run that they stand for.

    Attributes:
        config: configuration of the run.
        device: the device of the steps.
        ranks: number of devices of the run.
        batch: pairs of one device.
        tried: pairs of the steps; fewer than ``batch`` if that many do not fit, 0 if no step could be taken.
        waited, computed: seconds of each timed step before its batch was there, and after.
        bad: number of pairs of the steps that cannot be read.
        peak: the most bytes in use during the steps.
        room: bytes of memory of one device.
        checkpoint: bytes of a checkpoint.
        free: free bytes of the disk.
        flop: FLOP of a step with the pairs of all devices.
        steps: steps of the run.
        validations: validations of the run.
        validation: seconds of a validation.
        init_missing: True if the init must be pretrained first.
    """

    config: Experiment
    device: torch.device
    ranks: int
    batch: int
    tried: int
    waited: Sequence[float]
    computed: Sequence[float]
    bad: int
    peak: float
    room: float
    checkpoint: int
    free: int
    flop: int
    steps: int
    validations: int
    validation: float
    init_missing: bool

    @property
    def step(self) -> float:
        """Seconds of a step of the run; in proportion where fewer pairs were tried."""
        return statistics.mean(map(sum, zip(self.waited, self.computed, strict=True))) * self.batch / self.tried

    @property
    def seconds(self) -> float:
        """Seconds of the run."""
        return self.steps * self.step + self.validations * self.validation

    @property
    def status(self) -> int:
        """1 if the run would stop for want of memory or disk."""
        return int(self.tried < self.batch or CHECKPOINTS * self.checkpoint > self.free)


def plan(config: Experiment) -> int:
    """Print the plan of a run.

    Returns:
        The exit status: 1 if the run would stop for want of memory or disk.

    Raises:
        ValueError: the configuration cannot run, or a launcher started several processes.
    """
    check_alone("--plan measures")
    prepare(config)
    measured = measure(config)
    print("\n".join(lines(measured)))
    return measured.status


def measure(config: Experiment) -> Plan:
    """Take the steps, score a few images, and return the measurements."""
    devices = _devices(config)
    ranks = devices * config.trainer.num_nodes
    if config.data.batch_size % ranks:
        refuse("data.batch_size", config.data.batch_size, f"cannot be shared by {ranks} devices; choose a multiple of {ranks}")
    data = replace(config.data, batch_size=config.data.batch_size // ranks, workers=loading_processes(config))
    trial = build_trial(replace(config, data=data))
    batch = pairs_a_step(trial.config)
    room = _memory_room(cuda=_uses_cuda(config)) / (1 if _uses_cuda(config) else devices)
    tried, probe = _take_steps(trial, batch=batch, room=room)
    epoch, total = steps(config, trial.data.source)
    return Plan(
        config,
        device=probe.device,
        ranks=ranks,
        batch=batch,
        tried=tried,
        waited=probe.waited[WARMUP:] or probe.waited[-1:],
        computed=probe.computed[WARMUP:] or probe.computed[-1:],
        bad=probe.bad,
        peak=peak_bytes(probe.device),
        room=room,
        checkpoint=_bytes([*trial.module.parameters(), *trial.module.buffers()]) * (1 if config.optimizer.ema is None else 2) + probe.state,
        free=free_bytes(Path.cwd()),
        validation=_validation_seconds(trial, ranks=ranks) if config.evaluation.benchmarks else 0.0,
        flop=step_flop(config)[0],
        steps=total,
        validations=math.ceil(total / (epoch * config.trainer.check_val_every_n_epoch)),
        init_missing=init_is_missing(config),
    )


def _take_steps(trial: Trial, *, batch: int, room: float) -> tuple[int, "StepProbe"]:
    """Time steps of the run; with fewer pairs if it does not fit.  Returns the number of pairs, 0 if not even two fit, and the times.

    Two steps with an eighth of the pairs go first: their memory beyond weights, gradients and optimiser state, in proportion, tells whether
    all pairs fit.  A CPU would kill the process that tries.
    """
    pairs, small, probe = read_pairs(trial), max(2, batch // 8), StepProbe()
    weights = _bytes(trial.module.parameters())
    before = weights if _uses_cuda(trial.config) else _resident_bytes()
    try:
        trial.fit(probe, steps=2, batches=[repeated(pairs, small)] * 2)
        fixed = before + weights + probe.state  # gradients are as large as weights
        each = max(1.0, peak_bytes(probe.device) - fixed) / small
        tried = min(batch, int(((1 - SPARE) * room - fixed) / each))
    except torch.OutOfMemoryError:
        tried = small // 2
    most = STEPS + WARMUP if trial.config.data.features is None else min(STEPS + WARMUP, trial.total)  # a cache has no further captions
    while tried > 1:
        probe = StepProbe()
        try:
            trial.fit(probe, steps=most, batches=None if tried == batch else [repeated(pairs, tried)] * most)
            return tried, probe
        except torch.OutOfMemoryError:
            tried //= 2
    return 0, probe


class StepProbe(Callback):
    """A timer of training steps, which ends the trial after ``SECONDS``.

    Attributes:
        waited: seconds from the end of each step to the next batch.
        computed: seconds from the batch to the end of the step, with the device's work.
        bad: number of pairs that cannot be read.
        state: bytes of the optimiser's state.
        device: the device of the steps.
    """

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.computed: list[float] = []
        self.bad = 0
        self.state = 0
        self.device = torch.device("cpu")
        self._end = time.monotonic() + SECONDS

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to wait for the first batch."""
        self.device = pl_module.device
        self._last = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        self._begin = _now(self.device)
        self.waited.append(self._begin - self._last)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the time; end the trial in time."""
        self._last = _now(self.device)
        self.computed.append(self._last - self._begin)
        self.bad += int((~batch["valid"]).sum())
        self.state = _bytes(value for state in trainer.optimizers[0].state.values() for value in state.values())
        trainer.should_stop = trainer.should_stop or self._last > self._end


class ValidationProbe(Callback):
    """A timer of validation batches; the last of the callbacks, so that the scorers are timed.

    Attributes:
        times: number of the set -> time at the start of its first batch, then at the end of each batch.
    """

    def __init__(self) -> None:
        self.times: dict[int, list[float]] = {}

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the start of a set."""
        self.times.setdefault(dataloader_idx, [time.monotonic()])

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the end of a batch."""
        self.times[dataloader_idx].append(_now(pl_module.device))


def _validation_seconds(trial: Trial, *, ranks: int) -> float:
    """Score a few batches of each set.  Returns the seconds of a whole validation on each of some ranks."""
    probe = ValidationProbe()
    begin = time.monotonic()
    trainer = trial.trainer(*trial.scorers, probe, limit_val_batches=VALIDATED)
    trainer.validate(trial.module, datamodule=trial.data, verbose=False)
    seconds = time.monotonic() - begin
    for number, loader in enumerate(trial.data.val_dataloader()):
        start, first, *later = probe.times[number]
        each = (later[-1] - first) / len(later) if later else first - start
        seconds += each * (math.ceil(len(loader) / ranks) - 1 - len(later))
    return seconds


def lines(plan: Plan) -> list[str]:
    """Return the lines: each is ok, or names what would go wrong and the fix."""
    config = plan.config
    measured = f"{len(plan.computed)} steps on {device_name(plan.device)}, one process"
    head = f"plan of {config.name} at scale {config.scale}: {measured}; nothing is written"
    rows = [head, *_init(plan), _memory(plan)]
    rows.append(
        _line(
            f"compute: {format_flop(plan.flop)} a step, {format_flop(plan.steps * plan.flop)} to the end "
            "(matrix products, convolutions and attention)"
        )
    )
    return [*rows, *([_data(plan), _speed(plan), _waiting(plan)] if plan.tried else []), _checkpoints(plan), *_time(plan)]


def _line(text: str, mend: str | None = None) -> str:
    return f"ok    {text}" if mend is None else f"fix   {text}; {mend}"


def _init(plan: Plan) -> list[str]:
    if not plan.init_missing:
        return []
    init, scale = plan.config.image.init, plan.config.scale
    text = f"init: {init} is pretrained first, which the time below leaves out"
    return [_line(text, f"run gestalt pretrain --init {init} --scale {scale}")]


def _memory(plan: Plan) -> str:
    text = f"memory: {_size(plan.peak)} of {_size(plan.room)} for {plan.tried:,} pairs a device"
    if plan.tried == plan.batch:
        return _line(text)
    checkpointing = "" if plan.config.image.gradient_checkpointing else "image.gradient_checkpointing=true, "
    others = f"{checkpointing}a smaller image or more devices"
    if not plan.tried:
        return _line(f"memory: not even two pairs fit into {_size(plan.room)}", f"choose a smaller model, {others}")
    each = max(1, plan.tried // plan.config.trainer.accumulate_grad_batches)
    return _line(f"{text}, the {plan.batch:,} of this run do not fit", f"choose data.batch_size={each * plan.ranks}, {others}")


def _data(plan: Plan) -> str:
    text = f"data: {plan.bad} of {plan.tried * len(plan.computed):,} pairs cannot be read"
    return _line(text, f"run gestalt data inspect {plan.config.data.source}, which names them" if plan.bad else None)


def _speed(plan: Plan) -> str:
    rate = plan.batch / plan.step
    several = f"; {rate * plan.ranks:,.0f} on {plan.ranks} devices if their exchange takes no time" if plan.ranks > 1 else ""
    compiling = plan.config.trainer.compile
    compiled = "" if compiling == "none" else f", not compiled as trainer.compile={compiling} will"
    return _line(f"speed: {rate:,.1f} images/s of one device, {plan.step:.3g} s a step{several}{compiled}")


def _waiting(plan: Plan) -> str:
    workers, waited, computed = loading_processes(plan.config), sum(plan.waited), sum(plan.computed)
    share = waited / (waited + computed)
    text = f"waiting for data: {share:.0%} of the time with data.workers={workers}"
    if share <= WAITING:
        return _line(f"{text}: the device is the bottleneck")
    cores = max(1, usable_cores() // _devices(plan.config))
    pairs = plan.tried * len(plan.computed)
    one = pairs / (waited + computed) / min(workers, cores) if workers else pairs / waited
    wanted = math.ceil(AHEAD * pairs / computed / one)
    text = f"{text}; a loading process gives {one:,.1f} images/s, the device takes {pairs / computed:,.1f}"
    if workers < min(wanted, cores):
        return _line(text, f"choose data.workers={min(wanted, cores)} of {cores} cores a device")
    return _line(text, f"{wanted} loading processes are wanted and a device has {cores} cores; store smaller images")


def _checkpoints(plan: Plan) -> str:
    whole = CHECKPOINTS * plan.checkpoint
    text = f"checkpoints: {_size(plan.checkpoint)} each, {_size(whole)} a run at most (last, best, one while it is written)"
    mend = "free some space, or start the run in another folder" if whole > plan.free else None
    return _line(f"{text}; {_size(plan.free)} are free", mend)


def _time(plan: Plan) -> list[str]:
    if not plan.tried:
        return []
    scored = f" and {plan.validations:,} validations of {span(plan.validation)}" if plan.validation else ", without validation"
    text = f"time: {span(plan.seconds)} to the end, {plan.steps:,} steps of {plan.step:.3g} s{scored}"
    longest = plan.config.trainer.max_time
    if longest is None:
        return [_line(text)]
    days, hours, minutes, seconds = map(int, longest.split(":"))
    if 86_400 * days + 3_600 * hours + 60 * minutes + seconds >= plan.seconds:
        return [_line(text)]
    return [_line(f"{text}; trainer.max_time={longest} ends it before", "choose a longer one, or fewer steps")]


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes in use: of the accelerator, or on a CPU of this process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _devices(config: Experiment) -> int:
    """Return the devices of a node that the configuration asks for."""
    chosen = str(config.trainer.devices)
    if chosen in ("auto", "-1"):
        return torch.cuda.device_count() if _uses_cuda(config) else 1
    return len(chosen.split(",")) if "," in chosen else int(chosen)


def _uses_cuda(config: Experiment) -> bool:
    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _memory_room(*, cuda: bool) -> int:
    """Return the bytes that this process may use in all: of the accelerator, or of the machine within its container's limit."""
    if cuda:
        return torch.cuda.mem_get_info()[0]
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):  # not Linux
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    with suppress(OSError, ValueError):  # no container, or no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used)
    return _resident_bytes() + free


def _resident_bytes() -> int:
    """Return the bytes of this process; 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def _now(device: torch.device) -> float:
    """Return the time at which the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def _size(count: float) -> str:
    """Format bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 2**10:,.0f} KiB"
