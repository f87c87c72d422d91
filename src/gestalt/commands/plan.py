"""train --plan: take a few real steps, and print what the whole run takes.  No file is written."""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gestalt.commands.equal_cost import format_flop
from gestalt.commands.train import prepare
from gestalt.config.schema import Experiment
from gestalt.losses.matrix import BLOCK
from gestalt.results.record import device_name
from gestalt.results.text import span
from gestalt.runs.run import Run, averaging, build
from gestalt.runs.source import pairs_a_step, steps
from gestalt.runs.workers import describe_workers, loading_processes, ranks_here, usable_cores
from gestalt.support.files import free_bytes
from gestalt.support.keys import refuse
from gestalt.support.memory import free_memory
from gestalt.support.typed import ConfigError
from gestalt.training.machine import on_cuda
from gestalt.training.micro_batches import Batch
from gestalt.training.progress import peak_memory
from gestalt.training.trainer import keywords_of, make_trainer

MOST_PAIRS = 64
"""Largest number of pairs that are read for steps on pairs in memory."""

SIZES = (2, 4, 6)
"""Pairs of the steps whose FLOP are counted."""

NOTHING_WRITTEN = {
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "max_epochs": -1,
    "max_time": None,
    "enable_progress_bar": False,
    "limit_train_batches": None,
    "limit_val_batches": 0,
    "logger": False,
    "enable_checkpointing": False,
}
"""Keywords of a trainer that takes steps on one device until it is told to stop."""


def trial_trainer(trial: Run, *callbacks: Callback, **keywords: Any) -> Trainer:
    """Return a trainer that steps as a run does and writes nothing."""
    keywords = keywords_of(trial.config.trainer) | NOTHING_WRITTEN | keywords
    return make_trainer(
        Path(tempfile.gettempdir()),
        rank_timeout=trial.config.rank_timeout,
        callbacks=callbacks,
        **keywords,
    )


def take_steps(trial: Run, *callbacks: Callback, steps: int, batch: Batch | None = None) -> None:
    """Take training steps on the run's batches, or each on the same one."""
    trainer = trial_trainer(trial, *averaging(trial.config), *callbacks, max_steps=steps)
    if batch is None:
        trainer.fit(trial.module, datamodule=trial.data)
    else:
        loader: DataLoader[Any] = DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]  # a list stands in for a data set
        trainer.fit(trial.module, train_dataloaders=loader)


def check_alone(what: str) -> None:
    """Refuse the several processes of a launcher, each of which would do the same; ``what`` begins
    the message.

    Raises:
        ConfigError: names the launcher.
    """
    for name, launcher in {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "SLURM"}.items():
        count = os.environ.get(name, "1")
        if count != "1":
            raise ConfigError(
                f"{what} one device in one process, and {launcher} started {count}; call it "
                f"without {launcher}"
            )


def build_trial(config: Experiment) -> Run:
    """Build the parts of a run for steps on one device."""
    # the cache is a folder of the user's
    config = replace(config, evaluation=replace(config.evaluation, prompt_cache=False))
    trial = build(config)
    trial.module.token_count = "trial"  # a first step with an empty one prints its token count
    return trial


def read_pairs(trial: Run) -> Batch:
    """Read the pairs of the first batch, ``MOST_PAIRS`` at most, without those that cannot be read.

    Raises:
        ConfigError: none of them can be read.
    """
    loader = trial.data.train_dataloader()
    batch = loader.dataset[next(iter(loader.sampler))[:MOST_PAIRS]]
    valid = batch["valid"].nonzero().flatten().tolist()
    if not valid:
        raise ConfigError(
            f"none of the first {len(batch['text'])} pairs can be read; gestalt data inspect "
            f"{trial.config.data.source} names them"
        )
    return _select(batch, valid)


def repeat(batch: Batch, count: int) -> Batch:
    """Return a batch of so many pairs, which are repeated or cut."""
    return _select(batch, [number % len(batch["text"]) for number in range(count)])


def _select(batch: Batch, rows: list[int]) -> Batch:
    """Return some rows, all valid."""
    selected = {**batch, "valid_count": len(rows)}
    for key, values in batch.items():
        if isinstance(values, torch.Tensor):
            selected[key] = values[rows]
        elif isinstance(values, list):
            selected[key] = [values[row] for row in rows]
    return selected


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count FLOP of matrix products, convolutions and attention, with a multiplication and an
    addition as two FLOP.

    Attention is computed as plain matrix products meanwhile, because torch does not count its fused
    CPU kernel.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def step_flop(config: Experiment) -> tuple[int, int]:
    """Count the FLOP of a training step with all of its pairs on one device.  Returns them and the
    number of steps of the run.

    Configurations with the same hash have the same count: micro-batches, gradient checkpointing,
    cached features and the blocks of the loss, which change no result, are left out, as are
    elementwise operations.  Steps are taken on the CPU in float32, which any machine can do.  The
    first is not counted: it includes work that is done once in a run, such as embedding nouns by a
    frozen text tower.

    Raises:
        ConfigError: the configuration cannot run, or none of the first pairs can be read.
    """
    pairs = pairs_a_step(config)
    config = replace(
        config,
        evaluation=replace(config.evaluation, benchmarks=[]),
        image=replace(config.image, gradient_checkpointing=False),
        loss=replace(config.loss, chunk=None),
        data=replace(config.data, features=None, batch_size=pairs),
        trainer=replace(
            config.trainer, accumulate_grad_batches=1, accelerator="cpu", precision="32-true"
        ),
    )
    trial = build_trial(config)
    batch = read_pairs(trial)
    take_steps(trial, steps=1, batch=repeat(batch, SIZES[0]))
    return extrapolate(
        {size: count_step(trial, repeat(batch, size)) for size in SIZES}, pairs
    ), trial.total_steps


def count_step(trial: Run, batch: Batch) -> int:
    """Count the FLOP of a step: of its forward and backward pass, since the optimiser's update has
    only elementwise operations.
    """
    with counting() as counter:
        take_steps(trial, steps=1, batch=batch)
    return counter.get_total_flops()


def extrapolate(counts: dict[int, int], pairs: int) -> int:
    """Return the FLOP of a step with more pairs, by the polynomial through three counts.

    Towers cost a fixed amount for each pair, the loss one for each image and text, and the texts of
    nouns one for each step, so that three counts give every batch size.  The similarities that a
    large loss computes again in blocks are not included.
    """
    return round(
        sum(
            count
            * math.prod(Fraction(pairs - other, size - other) for other in counts if other != size)
            for size, count in counts.items()
        )
    )


STEPS = 20
"""Steps that are timed, at most."""

WARMUP = 2
"""Steps before them."""

SECONDS = 40.0
"""Seconds after which no further step is taken."""

SMALL = 64
"""Largest number of pairs of the smallest batch by which memory is estimated."""

RISE = 2**23
"""Bytes by which a larger batch must raise the peak of the memory to say what a pair takes."""

SIMILARITY = 16
"""Bytes for each similarity that the loss holds at once: float32, with gradient and softmax."""

VALIDATION_BATCHES = 3
"""Batches of each validation set that are scored."""

SPARE = 0.05
"""Share of the memory to leave free: allocators keep more than they use."""

WAITING = 0.05
"""Largest share of a step's time that may be spent waiting for data."""

AHEAD = 1.2
"""Recommended speed of the loading processes over that of the device; above 1, since both vary."""

CHECKPOINTS = 3
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
    # the steps take one device; the run's may be another machine's
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
    device = _device(config)
    # bytes that this process may use in all: of the accelerator, or its share of the machine within
    # its container's limit
    room: float
    if device.type == "cuda":
        room = torch.cuda.mem_get_info()[0]
    else:
        room = (peak_memory(device) + free_memory()) / devices  # freed memory is kept
    trial_batch, probe = _take_steps(trial, batch, room, ranks)
    peak = peak_memory(device)
    weights = _bytes([*trial.module.parameters(), *trial.module.buffers()])
    checkpoint = weights * (1 if config.optimizer.ema is None else 2) + probe.state
    free = free_bytes(Path.cwd())
    unchecked = f"its {ranks} ranks were not checked on this machine; " if ranks > 1 else ""
    lines = [
        f"plan of {config.name} at scale {config.scale}: {len(probe.computed)} steps on "
        f"{device_name(device)}, one process; {unchecked}no run is written",
        memory_line(
            config, trial_batch=trial_batch, batch=batch, ranks=ranks, peak=peak, room=room
        ),
        disk_line(checkpoint, free),
    ]
    if trial_batch:
        if trial_batch == batch:  # fewer pairs are taken again and again, and do not wait for data
            lines += [
                data_line(config, bad=probe.bad, pairs=batch * len(probe.computed)),
                _line(describe_workers(config, pairs)),
                waiting_line(config, probe, trial.data.workers),
            ]
        step = statistics.mean(probe.waited) + statistics.mean(probe.computed)
        lines += _time_lines(config, trial, step * batch / trial_batch, batch, ranks)
    print("\n".join(lines))
    return int(trial_batch < batch or CHECKPOINTS * checkpoint > free)


class StepProbe(Callback):
    """A timer of training steps, which ends the trial after ``SECONDS``.

    Attributes:
        waited: seconds from the end of each step to the next batch.
        computed: seconds from the batch to the end of the step, with the device's work.
        bad: number of pairs that cannot be read.
        state: bytes of the optimiser's state.
    """

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.computed: list[float] = []
        self.bad = 0
        self.state = 0
        self._end = time.monotonic() + SECONDS

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin to wait for the first batch."""
        self._last = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        self._begin = _now(pl_module.device)
        self.waited.append(self._begin - self._last)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time; forget the first steps, which warm up; end the trial in time."""
        self._last = _now(pl_module.device)
        self.computed.append(self._last - self._begin)
        self.bad += int((~batch["valid"]).sum())
        self.state = _bytes(
            value for state in trainer.optimizers[0].state.values() for value in state.values()
        )
        if trainer.global_step == WARMUP:
            self.waited = []
            self.computed = []
            self.bad = 0
        trainer.should_stop = trainer.should_stop or (
            bool(self.computed) and self._last > self._end
        )


def _take_steps(trial: Run, batch: int, room: float, ranks: int) -> tuple[int, StepProbe]:
    """Time steps of the run; with fewer pairs if it does not fit.  Returns the number of pairs, 0
    if not even one fits, and the times.

    Steps at smaller batch sizes go first, each twice the last: what a pair adds to the peak of
    their memory tells whether all pairs fit.  The system would kill a process on a CPU that only
    tries.  A peak of the start-up hides those of small batches there; sizes go on until two show.
    """
    pairs = read_pairs(trial)
    probe = StepProbe()
    size = max(2, min(batch // 4, SMALL))
    device = _device(trial.config)
    shown: list[tuple[int, float]] = []  # sizes whose steps raised the peak, and their peaks
    peak = peak_memory(device)
    trial_batch = batch
    try:
        while size <= batch and len(shown) < 2:
            take_steps(trial, probe, steps=WARMUP, batch=repeat(pairs, size))
            reached = peak_memory(device)
            if reached > peak + RISE:
                shown.append((size, reached))
            peak = reached
            size = 2 * size
        if len(shown) == 2:
            (small, low), (large, high) = shown
            loss = SIMILARITY * min(batch * batch * ranks, BLOCK)
            further = ((1 - SPARE) * room - loss - high) * (large - small) / (high - low)
            trial_batch = max(0, min(batch, int(large + further)))
    except torch.OutOfMemoryError:
        trial_batch = size // 2
    while trial_batch:
        probe = StepProbe()
        try:
            fewer = None if trial_batch == batch else repeat(pairs, trial_batch)
            take_steps(trial, probe, steps=STEPS + WARMUP, batch=fewer)
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
    whole = CHECKPOINTS * checkpoint
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


def waiting_line(config: Experiment, probe: StepProbe, workers: int) -> str:
    """Return the line on steps that wait for so many loading processes of a rank."""
    waited = sum(probe.waited)
    computed = sum(probe.computed)
    share = waited / (waited + computed)
    text = f"waiting for data: {share:.0%} of the time with data.workers={workers}"
    if share <= WAITING:
        return _line(f"{text}: the device is the bottleneck")
    cores = max(1, usable_cores() // ranks_here(config))
    loading = min(workers, cores) * (waited + computed) if workers else waited  # by one process
    wanted = math.ceil(AHEAD * loading / computed)
    if workers < min(wanted, cores):
        return _line(text, f"choose data.workers={min(wanted, cores)} of {cores} cores a device")
    return _line(
        text,
        f"{wanted} loading processes are wanted and a device has {cores} cores; store smaller "
        "images",
    )


def _device(config: Experiment) -> torch.device:
    """Return the device of a step."""
    return torch.device("cuda" if on_cuda(config.trainer) else "cpu")


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


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
