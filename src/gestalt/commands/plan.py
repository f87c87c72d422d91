"""train --plan: take a few real steps, and print what the whole run takes.  No file is written."""

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.losses.matrix import BLOCK
from gestalt.results.record import device_name
from gestalt.results.text import span
from gestalt.runs.process import check_alone, prepare
from gestalt.runs.run import Run
from gestalt.runs.source import pairs_a_step, steps
from gestalt.runs.trial import (
    build_trial,
    format_flop,
    read_pairs,
    repeat,
    step_flop,
    take_steps,
    trial_trainer,
)
from gestalt.runs.workers import describe_workers, loading_processes, ranks_here, usable_cores
from gestalt.support.files import free_bytes
from gestalt.support.keys import refuse
from gestalt.support.process import free_memory
from gestalt.training.progress import peak_memory
from gestalt.training.trainer import on_cuda

WARMUP_STEPS = 2
"""Steps before those that are timed."""

MAX_STEPS = 20
"""Largest number of steps that are timed."""

MAX_SECONDS = 40.0
"""Seconds after which no further step is taken."""

MAX_FIRST_PAIRS = 64
"""Largest number of pairs of the smallest batch by which memory is estimated."""

MIN_RISE_BYTES = 2**23
"""Bytes by which a larger batch must raise the peak of the memory to say what a pair takes."""

SIMILARITY_BYTES = 16
"""Bytes for each similarity that the loss holds at once: float32, with gradient and softmax."""

VALIDATION_BATCHES = 3
"""Batches of each validation set that are scored."""

SPARE_MEMORY_SHARE = 0.05
"""Share of the memory to leave free: allocators keep more than they use."""

MAX_WAITING_SHARE = 0.05
"""Largest share of a step's time that may be spent waiting for data."""

LOADING_OVER_COMPUTING = 1.2
"""Recommended speed of the loading processes over that of the device; above 1, since both vary."""

CHECKPOINTS_AT_ONCE = 3
"""Checkpoints that lie in a run's folder at one time: the last, the best, and one that is being
written.
"""


def plan(config: Experiment) -> int:
    """Print the plan of a run.

    Returns:
        The exit status: 1 if the run would stop for want of memory or disk.

    Raises:
        ValueError: the configuration cannot run, or a launcher started several processes.
    """
    check_alone("--plan measures")
    # The steps take one device; those of the run may be another machine's.
    prepare(replace(config, trainer=replace(config.trainer, devices=1)))
    devices = ranks_here(config)
    ranks = devices * config.trainer.num_nodes
    if config.data.batch_size % ranks:
        refuse(
            "data.batch_size",
            config.data.batch_size,
            f"cannot be shared by {ranks} devices; choose a multiple of {ranks}",
        )
    data = replace(config.data, batch_size=config.data.batch_size // ranks)
    trial = build_trial(replace(config, data=data))
    pairs = len(trial.data.source)
    trial.data.workers = loading_processes(config, pairs)
    batch = pairs_a_step(trial.config)
    device = torch.device("cuda" if on_cuda(config.trainer) else "cpu")
    # This is in bytes: the memory of the accelerator, or the share of this process in the machine's
    # within the limit of its container.
    room: float
    if device.type == "cuda":
        room = torch.cuda.mem_get_info()[0]
    else:
        room = (peak_memory(device) + free_memory()) / devices  # freed memory is kept
    trial_batch, probe = _time_steps(trial, batch, room, ranks, device)
    waited, computed, count = probe.seconds()
    peak = peak_memory(device)
    weights = _bytes([*trial.module.parameters(), *trial.module.buffers()])
    checkpoint = weights * (1 if config.optimizer.ema is None else 2) + probe.state_bytes
    free = free_bytes(Path.cwd())
    unchecked = f"its {ranks} ranks were not checked on this machine; " if ranks > 1 else ""
    lines = [
        f"plan of {config.name} at scale {config.scale}: {count} steps on "
        f"{device_name(device)}, one process; {unchecked}no run is written",
        memory_line(
            config, trial_batch=trial_batch, batch=batch, ranks=ranks, peak=peak, room=room
        ),
        disk_line(checkpoint, free),
    ]
    if trial_batch:
        if trial_batch == batch:  # fewer pairs are taken again and again, and do not wait for data
            lines += [
                data_line(config, bad=probe.bad, pairs=batch * count),
                _line(describe_workers(config, pairs)),
                waiting_line(config, waited, computed, workers=trial.data.workers),
            ]
        step = (waited + computed) / count * batch / trial_batch
        lines += _time_lines(config, trial, step, batch, ranks)
    print("\n".join(lines))
    return int(trial_batch < batch or CHECKPOINTS_AT_ONCE * checkpoint > free)


class StepProbe(Callback):
    """Notes when the steps of a trial begin and end.

    Attributes:
        times: begin and end of each step by turns, when the device has done its work, in seconds.
        bad: number of pairs of the timed steps that cannot be read.
        state_bytes: bytes of the optimiser's state.
    """

    times: list[float]

    def __init__(self) -> None:
        self.state_bytes = 0
        self.on_train_start()

    def on_train_start(self, *_: Any) -> None:
        """Forget an earlier trial."""
        self.times = []
        self.bad = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the time."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.times.append(time.monotonic())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time and the bad pairs."""
        self.on_train_batch_start(trainer, pl_module)
        if trainer.global_step > WARMUP_STEPS:
            self.bad += int((~batch["valid"]).sum())

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Measure the optimiser's state."""
        self.state_bytes = _bytes(
            value for state in trainer.optimizers[0].state.values() for value in state.values()
        )

    def seconds(self) -> tuple[float, float, int]:
        """Return the seconds of waiting for batches and of computing after the warm-up, and the
        number of these steps.
        """
        between = np.diff(self.times[2 * WARMUP_STEPS - 1 :])
        return float(between[::2].sum()), float(between[1::2].sum()), len(between) // 2


def _time_steps(
    trial: Run, batch: int, room: float, ranks: int, device: torch.device
) -> tuple[int, StepProbe]:
    """Time steps of the run; with fewer pairs if it does not fit.  Returns the number of pairs, 0
    if not even one fits, and the times.

    Steps at smaller batch sizes go first, each twice the last: what a pair adds to the peak of
    their memory tells whether all pairs fit.  The system would kill a process on a CPU that only
    tries.  A peak of the start-up hides those of small batches there; sizes go on until two show.
    """
    pairs = read_pairs(trial)
    probe = StepProbe()
    size = max(2, min(batch // 4, MAX_FIRST_PAIRS))
    shown: list[tuple[int, float]] = []  # sizes whose steps raised the peak, and their peaks
    peak = peak_memory(device)
    trial_batch = batch
    try:
        while size <= batch and len(shown) < 2:
            take_steps(trial, probe, batch=repeat(pairs, size), max_steps=WARMUP_STEPS)
            reached = peak_memory(device)
            if reached > peak + MIN_RISE_BYTES:
                shown.append((size, reached))
            peak = reached
            size = 2 * size
        if len(shown) == 2:
            (small, low), (large, high) = shown
            loss = SIMILARITY_BYTES * min(batch * batch * ranks, BLOCK)
            left = (1 - SPARE_MEMORY_SHARE) * room - loss - high
            further = left * (large - small) / (high - low)
            trial_batch = max(0, min(batch, int(large + further)))
    except torch.OutOfMemoryError:
        trial_batch = size // 2
    while trial_batch:
        try:
            take_steps(
                trial,
                probe,
                batch=None if trial_batch == batch else repeat(pairs, trial_batch),
                max_steps=MAX_STEPS + WARMUP_STEPS,
                min_steps=WARMUP_STEPS + 1,
                max_time={"seconds": MAX_SECONDS},
            )
            break
        except torch.OutOfMemoryError:
            trial_batch //= 2
    return trial_batch, probe


def _time_lines(config: Experiment, trial: Run, step: float, batch: int, ranks: int) -> list[str]:
    """Score a few batches and count FLOP.  Returns the lines on speed, compute and time."""
    epoch, total = steps(config, trial.data.source)
    flop, _ = step_flop(config)
    speed = f"speed: {batch / step:,.1f} images/s of one device, {step:.3g} s a step"
    if ranks > 1:
        speed += f"; {batch * ranks / step:,.0f} on {ranks} devices if their exchange takes no time"
    if config.trainer.compile != "none":
        speed += f", not compiled as trainer.compile={config.trainer.compile} will"
    text = f"{total:,} steps of {step:.3g} s"
    seconds = total * step
    if config.evaluation.benchmarks:
        count = math.ceil(total / (epoch * config.trainer.check_val_every_n_epoch))
        validation = _validation_seconds(trial, ranks)
        text += f" and {count:,} validations of {span(validation)}"
        seconds += count * validation
    return [
        _line(speed),
        _line(
            f"compute: {format_flop(flop)} a step, {format_flop(total * flop)} to the end (matrix "
            "products, convolutions and attention)"
        ),
        time_line(f"time: {span(seconds)} to the end, {text}", seconds, config.trainer.max_time),
    ]


def _validation_seconds(trial: Run, ranks: int) -> float:
    """Score a few batches of each set.  Returns the seconds of a whole validation on each of some
    ranks.
    """

    def seconds(limit: int) -> float:
        begin = time.monotonic()
        trainer = trial_trainer(trial, *trial.scorers, limit_val_batches=limit)
        trainer.validate(trial.module, datamodule=trial.data, verbose=False)
        return time.monotonic() - begin

    seconds(1)  # warms up
    one = seconds(1)
    some = seconds(VALIDATION_BATCHES)
    lengths = [len(loader) for loader in trial.data.val_dataloader()]
    further = sum(min(VALIDATION_BATCHES, length) - 1 for length in lengths)
    each = max(0.0, some - one) / max(1, further)
    return one + each * sum(math.ceil(length / ranks) - 1 for length in lengths)


def _line(text: str, mend: str = "") -> str:
    return f"fix   {text}; {mend}" if mend else f"ok    {text}"


def time_line(text: str, seconds: float, longest: str | None) -> str:
    """Return the line on the time of the run, which ``trainer.max_time`` may end before."""
    limit = Timer(longest).time_remaining()
    if limit is not None and limit < seconds:
        text = f"{text}; trainer.max_time={longest} ends it before its last step"
        return _line(text, "choose a longer one, or fewer steps")
    return _line(text)


def memory_line(
    config: Experiment, *, trial_batch: int, batch: int, ranks: int, peak: float, room: float
) -> str:
    """Return the line on memory: what steps of ``trial_batch`` of the ``batch`` pairs of a device
    took of its room.
    """
    text = f"memory: {_size(peak)} of {_size(room)} for {trial_batch:,} pairs a device"
    if trial_batch == batch:
        return _line(text)
    others = "a smaller image or more devices"
    if not config.image.gradient_checkpointing:
        others = f"image.gradient_checkpointing=true, {others}"
    if not trial_batch:
        return _line(
            f"memory: not even one pair fits into {_size(room)}",
            f"choose a smaller model, {others}",
        )
    each = max(1, trial_batch // config.trainer.accumulate_grad_batches)
    return _line(
        f"{text}, the {batch:,} of this run do not fit",
        f"choose data.batch_size={each * ranks}, {others}",
    )


def disk_line(checkpoint: int, free: int) -> str:
    """Return the line on disk space."""
    whole = CHECKPOINTS_AT_ONCE * checkpoint
    text = (
        f"checkpoints: {_size(checkpoint)} each, {_size(whole)} a run at most (last, best, one "
        "while it is written)"
    )
    return _line(
        f"{text}; {_size(free)} are free",
        "free some space, or start the run in another folder" if whole > free else "",
    )


def data_line(config: Experiment, *, bad: int, pairs: int) -> str:
    """Return the line on pairs that cannot be read."""
    mend = f"run gestalt data inspect {config.data.source}, which names them" if bad else ""
    return _line(f"data: {bad} of {pairs:,} pairs cannot be read", mend)


def waiting_line(config: Experiment, waited: float, computed: float, *, workers: int) -> str:
    """Return the line on steps that wait for so many loading processes of a rank, given the seconds
    of waiting and of computing.
    """
    share = waited / (waited + computed)
    text = f"waiting for data: {share:.0%} of the time with data.workers={workers}"
    if share <= MAX_WAITING_SHARE:
        return _line(f"{text}: the device is the bottleneck")
    cores = max(1, usable_cores() // ranks_here(config))
    loading = min(workers, cores) * (waited + computed) if workers else waited  # by one process
    wanted = math.ceil(LOADING_OVER_COMPUTING * loading / computed)
    if workers < min(wanted, cores):
        return _line(text, f"choose data.workers={min(wanted, cores)} of {cores} cores a device")
    return _line(
        text,
        f"{wanted} loading processes are wanted and a device has {cores} cores; store smaller "
        "images",
    )


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


def _size(count: float) -> str:
    """Format bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 2**10:,.0f} KiB"
