"""Run real training steps on one device without writing files, to measure time and memory, and
count the FLOP of a step on a few pairs.

The steps work with any number of pairs.
"""

import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gestalt.config.schema import Experiment
from gestalt.module import ContrastiveModule
from gestalt.runs.evaluation import build_evaluation
from gestalt.runs.run import Run, averaging, build
from gestalt.runs.source import build_source, pairs_a_step, steps
from gestalt.support.faults import Caveat
from gestalt.support.typed import ConfigError
from gestalt.training.micro_batches import Batch
from gestalt.training.progress import Speed
from gestalt.training.trainer import keywords_of, make_trainer

MAX_PAIRS = 64
"""Maximum number of pairs that are read.  Steps repeat these pairs from memory."""

COUNTED_PAIRS = (2, 4, 6)
"""Numbers of pairs of the steps whose FLOP are counted."""

MAX_STEPS = 20
"""Maximum number of steps to measure the time of a step."""

MIN_STEPS = 4
"""Minimum number of steps.  The first is not timed."""

MAX_SECONDS = 40.0
"""Seconds after which no further step is timed."""

VALIDATION_BATCHES = 3
"""Number of batches of each validation set that are timed, in addition to the first."""

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
"""Arguments of a trainer that takes steps on one device until it is told to stop."""


def trial_trainer(trial: Run, *callbacks: Callback, **keywords: Any) -> Trainer:
    """Return a trainer that takes the same steps as a run and writes nothing.  ``keywords`` are
    arguments of Lightning's Trainer.
    """
    keywords = keywords_of(trial.config.trainer) | NOTHING_WRITTEN | keywords
    return make_trainer(
        Path(tempfile.gettempdir()),
        rank_timeout=trial.config.rank_timeout,
        callbacks=callbacks,
        **keywords,
    )


def take_steps(
    trial: Run, batch: Batch, *callbacks: Callback, max_steps: int = 1, **keywords: Any
) -> Trainer:
    """Take training steps on the same batch.  Returns the trainer."""
    callbacks = (*averaging(trial.config.optimizer), *callbacks)
    trainer = trial_trainer(trial, *callbacks, max_steps=max_steps, **keywords)
    loader: DataLoader[Any] = DataLoader(
        [batch] * max_steps,  # type: ignore[arg-type]  # a list stands in for a data set
        batch_size=None,
        pin_memory=torch.cuda.is_available(),
    )
    trainer.fit(trial.module, train_dataloaders=loader)
    return trainer


def build_trial(config: Experiment) -> Run:
    """Build the parts of a run for steps on one device.

    Any number of pairs is enough. This process reads them itself, and nothing is compiled.
    """
    config = deepcopy(config)
    # A trial must not write to the cache, which is a folder of the user.
    config.evaluation.prompt_cache = False
    config.evaluation.benchmarks = []
    config.data.batch_size = 1
    config.data.workers = 0
    config.optimizer.warmup_steps = 0
    config.trainer.compile = "none"
    config.trainer.max_steps = MAX_STEPS
    config.trainer.max_epochs = -1
    trial = build(config)
    trial.module.token_count = "trial"  # if it is empty, the first step prints the number of tokens
    return trial


def read_pairs(trial: Run, *, first: int = 0) -> Batch:
    """Read ``MAX_PAIRS`` pairs in the order of the run, starting at ``first``, across epochs if
    needed. Pairs that cannot be read are left out.

    Raises:
        ConfigError: none of the pairs can be read.
    """
    loader: Any = trial.data.train_dataloader()
    batch = loader.dataset[loader.sampler.order.keys(first, first + MAX_PAIRS)]
    valid = batch["valid"].nonzero().flatten().tolist()
    if not valid:
        raise ConfigError(
            f"none of the first {MAX_PAIRS} pairs can be read; gestalt data inspect "
            f"{trial.config.data.source} names them"
        )
    return _select(batch, valid)


def repeat(batch: Batch, count: int) -> Batch:
    """Return a batch of ``count`` pairs, by repeating or cutting a batch."""
    return _select(batch, [number % len(batch["text"]) for number in range(count)])


def _select(batch: Batch, rows: list[int]) -> Batch:
    """Return some rows of a batch, all marked as valid."""
    selected = {**batch, "valid_count": len(rows)}
    for key, values in batch.items():
        if isinstance(values, torch.Tensor):
            selected[key] = values[rows]
        elif isinstance(values, list):
            selected[key] = [values[row] for row in rows]
    return selected


def time_step(trial: Run, batch: Batch) -> float:
    """Return the seconds of a training step on a batch, without the time to load it."""
    speed = Speed()
    take_steps(
        trial,
        batch,
        speed,
        max_steps=MAX_STEPS,
        min_steps=MIN_STEPS,
        max_time={"seconds": MAX_SECONDS},
        log_every_n_steps=1,  # a step that is logged waits for the device
    )
    return speed.seconds_per_step


def time_validation(trial: Run, benchmarks: list[str], *, ranks: int) -> float:
    """Score a few batches of each set.  Returns the estimated seconds of a whole validation on
    ``ranks`` ranks.

    Raises:
        ValueError: the files of a benchmark are missing or damaged.
    """
    config = deepcopy(trial.config)
    config.evaluation.benchmarks = benchmarks
    data, scorers = build_evaluation(config)

    def seconds(limit: int) -> float:
        begin = time.monotonic()
        trainer = trial_trainer(trial, *scorers, limit_val_batches=limit)
        with warnings.catch_warnings(action="ignore", category=Caveat):  # a part is enough here
            trainer.validate(trial.module, datamodule=data, verbose=False)
        return time.monotonic() - begin

    seconds(1)  # warms up
    one = seconds(1)
    each = max(0.0, seconds(1 + VALIDATION_BATCHES) - one) / VALIDATION_BATCHES
    further = [math.ceil(len(loader) / ranks) - 1 for loader in data.val_dataloader()]
    return one + each * mean(further)


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count the FLOP of matrix products, convolutions and attention; a multiplication and an
    addition are two FLOP.

    Within the context, attention is computed with plain matrix products, because torch does not
    count its fused CPU kernel.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


class Counted(NamedTuple):
    """The cost of a run: what its steps compute and store.

    Attributes:
        flop: FLOP of a step.
        saved: bytes of a checkpoint: weights, averaged weights, and the optimiser's state after a
            step.
    """

    flop: int
    saved: int


def step_flop(config: Experiment) -> tuple[int, int]:
    """Count the FLOP of a training step with all of its pairs on one device.  Returns the FLOP and
    the number of steps of the run.

    Raises:
        ConfigError: the configuration cannot run, or none of the first pairs can be read.
    """
    flop = count_training(config, pairs_a_step(config)).flop
    return flop, steps(config, len(build_source(config)))[1]


def count_training(config: Experiment, pairs: int) -> Counted:
    """Count the FLOP of a training step with ``pairs`` pairs on one device, and the bytes of a
    checkpoint.

    Configurations with the same hash have the same count. Micro-batches, gradient checkpointing,
    cached features and the blocks of the loss do not change results, so their FLOP are not counted.
    Elementwise operations are not counted either.

    The model and its pairs are converted to meta tensors, which have shapes but no values, so that
    steps need neither time nor memory. If code reads values, steps are taken on the CPU instead.
    The first step is not counted: it includes work that is done once in a run, such as embedding
    nouns with a frozen text tower.

    Raises:
        ConfigError: the configuration cannot run, or none of the first pairs can be read.
    """
    config = deepcopy(config)
    config.image.gradient_checkpointing = False
    config.loss.chunk = None
    config.data.features = None
    config.trainer.accumulate_grad_batches = 1
    config.trainer.accelerator = "cpu"
    if config.trainer.precision.endswith("-mixed"):
        config.trainer.precision = "32-true"  # the weights are the same
    try:
        return _count(config, pairs, "meta")
    except RuntimeError:  # from torch where values are read; other errors occur again
        return _count(config, pairs, "cpu")


def _count(config: Experiment, pairs: int, device: str) -> Counted:
    trial = build_trial(config)
    module, batch = trial.module.to(device), read_pairs(trial)
    trainer = trial_trainer(trial, max_steps=2, log_every_n_steps=2)  # no step is logged
    module.trainer = trainer
    optimizer = _optimizer(trial)
    count_step(module, optimizer, repeat(batch, COUNTED_PAIRS[0]))
    counts = {size: count_step(module, optimizer, repeat(batch, size)) for size in COUNTED_PAIRS}
    trainer.precision_plugin.convert_module(module)  # weights in 16 bits take half the bytes
    optimizer = _optimizer(trial)
    optimizer.step()
    copies = 1 if config.optimizer.ema is None else 2
    weights = [*module.parameters(), *module.buffers()]
    saved = [*weights * copies, *tree_leaves(dict(optimizer.state))]
    size = sum(tensor.nbytes for tensor in saved if torch.is_tensor(tensor))
    return Counted(extrapolate(counts, pairs), size)


def _optimizer(trial: Run) -> Optimizer:
    """Return the run's optimiser without a fused kernel, which does not take meta tensors.  The
    state is the same.
    """
    module = trial.module
    return module.make_optimizer(module.model, module.terms, fused=False)  # type: ignore[call-arg]


def count_step(module: ContrastiveModule, optimizer: Optimizer, batch: Batch) -> int:
    """Count the FLOP of a step: the forward and backward pass, and the optimiser if it multiplies
    matrices, as Muon does.
    """
    optimizer.zero_grad()
    with counting() as counter:
        loss = module.training_step(move_data_to_device(batch, module.device), 0)
        torch.autograd.backward(loss)
        optimizer.step()
    return counter.get_total_flops()


def extrapolate(counts: dict[int, int], pairs: int) -> int:
    """Return the FLOP of a step with more pairs, from the quadratic polynomial through three
    counts.

    Three counts determine the cost of every batch size, because the cost of the towers is
    proportional to the number of pairs, the cost of the loss to the number of image-text
    combinations, and the cost of embedding nouns is constant.  The similarities that a large loss
    recomputes in blocks are not included.
    """
    return round(
        sum(
            count
            * math.prod(Fraction(pairs - other, size - other) for other in counts if other != size)
            for size, count in counts.items()
        )
    )
