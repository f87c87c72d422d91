"""A trial of a run: real steps on one device, of which no file is written; and the FLOP of a step,
counted on a trial of a few pairs.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gestalt.config.schema import Experiment
from gestalt.runs.run import Run, averaging, build
from gestalt.runs.source import pairs_a_step
from gestalt.support.typed import ConfigError
from gestalt.training.micro_batches import Batch
from gestalt.training.trainer import keywords_of, make_trainer

MAX_PAIRS = 64
"""Largest number of pairs that are read for steps on pairs in memory."""

COUNTED_PAIRS = (2, 4, 6)
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
    """Return a trainer that steps as a run does and writes nothing; keywords are Lightning's."""
    keywords = keywords_of(trial.config.trainer) | NOTHING_WRITTEN | keywords
    return make_trainer(
        Path(tempfile.gettempdir()),
        rank_timeout=trial.config.rank_timeout,
        callbacks=callbacks,
        **keywords,
    )


def take_steps(
    trial: Run, *callbacks: Callback, batch: Batch | None = None, max_steps: int, **keywords: Any
) -> None:
    """Take training steps on the run's batches, or each on the same one."""
    callbacks = (*averaging(trial.config), *callbacks)
    trainer = trial_trainer(trial, *callbacks, max_steps=max_steps, **keywords)
    if batch is None:
        trainer.fit(trial.module, datamodule=trial.data)
    else:
        loader: DataLoader[Any] = DataLoader([batch] * max_steps, batch_size=None)  # type: ignore[arg-type]  # a list stands in for a data set
        trainer.fit(trial.module, train_dataloaders=loader)


def build_trial(config: Experiment) -> Run:
    """Build the parts of a run for steps on one device."""
    # The cache is a folder of the user's, in which a trial writes nothing.
    config = replace(config, evaluation=replace(config.evaluation, prompt_cache=False))
    trial = build(config)
    trial.module.token_count = "trial"  # a first step with an empty one prints its token count
    return trial


def read_pairs(trial: Run) -> Batch:
    """Read the pairs of the first batch, ``MAX_PAIRS`` at most, without those that cannot be read.

    Raises:
        ConfigError: none of them can be read.
    """
    loader = trial.data.train_dataloader()
    batch = loader.dataset[next(iter(loader.sampler))[:MAX_PAIRS]]
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
    take_steps(trial, max_steps=1, batch=repeat(batch, COUNTED_PAIRS[0]))
    return extrapolate(
        {size: count_step(trial, repeat(batch, size)) for size in COUNTED_PAIRS}, pairs
    ), trial.total_steps


def count_step(trial: Run, batch: Batch) -> int:
    """Count the FLOP of a step: of its forward and backward pass, since the optimiser's update has
    only elementwise operations.
    """
    with counting() as counter:
        take_steps(trial, max_steps=1, batch=batch)
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


def format_flop(flop: float) -> str:
    """Format FLOP."""
    for unit, factor in (("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if flop >= factor:
            return f"{flop / factor:,.4g} {unit}"
    return f"{flop / 10**9:,.4g} GFLOP"
