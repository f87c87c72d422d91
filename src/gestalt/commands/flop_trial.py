"""The FLOP of a training step of a configuration, from a few small steps on its data.  Nothing is written."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from gestalt.building.source import pairs_a_step
from gestalt.commands.plan_trial import Trial, repeated, trial_of
from gestalt.config.schema import ConfigError, Experiment
from gestalt.planning.flops import FlopProbe, extended

SIZES = (2, 4, 6)
"""Pairs of the counted steps, for each micro-batch of a step."""

READ = 64
"""Largest number of pairs that are read.  All are padded to the longest caption among them."""


def step_flop(config: Experiment) -> tuple[int, int]:
    """Count the FLOP of a training step with all of its pairs on one device.  Returns them and the number of steps of the run.

    Configurations with the same hash have the same count: micro-batches, gradient checkpointing, cached features and the blocks of the
    loss, which change no result, are left out.
    Steps are taken on the CPU in float32, which any machine can do and which leaves its accelerators to the runs.

    Raises:
        ConfigError: the configuration cannot run, or none of the first pairs can be read.
    """
    alone = replace(
        config,
        evaluation=replace(config.evaluation, benchmarks=[]),
        image=replace(config.image, gradient_checkpointing=False),
        loss=replace(config.loss, chunk=None),
        data=replace(config.data, features=None, batch_size=pairs_a_step(config)),
        trainer=replace(config.trainer, accumulate_grad_batches=1, accelerator="cpu", precision="32-true"),
    )
    with tempfile.TemporaryDirectory() as folder:
        trial = trial_of(alone, batch=pairs_a_step(alone), folder=Path(folder))
        return counted_flop(trial, read(trial)), trial.total


def read(trial: Trial) -> dict[str, Any]:
    """Read the pairs of the first batch, ``READ`` at most, without those that cannot be read.

    Raises:
        ConfigError: none of them can be read.
    """
    loader = trial.data.train_dataloader()
    made = loader.dataset.__getitems__(next(iter(loader.batch_sampler))[:READ])
    rows = made["valid"].nonzero().flatten().tolist()
    if not rows:
        source = trial.config.data.source
        raise ConfigError(f"none of the first {len(made['text'])} pairs can be read; gestalt data inspect {source} names them")
    return {key: _rows(values, rows) for key, values in made.items()}


def counted_flop(trial: Trial, made: Mapping[str, Any]) -> int:
    """Count the FLOP of a step of the run, from small steps on some of its pairs.

    The first step is not counted: it includes work that is done once in a run, such as embedding nouns by a frozen text tower.
    """
    sizes = [trial.config.trainer.accumulate_grad_batches * size for size in (SIZES[0], *SIZES)]
    batches = [repeated(made, count=size, times=1)[0] for size in sizes]
    probe = FlopProbe()
    trainer = trial.trainer([probe], max_steps=len(batches))
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list of batches in memory
    trainer.fit(trial.module, train_dataloaders=loader)
    return extended(probe.counts, pairs=pairs_a_step(trial.config))


def _rows(values: Any, rows: list[int]) -> Any:
    """Return rows of a part of a batch, or the part itself if it is not by row."""
    if isinstance(values, torch.Tensor):
        return values[rows]
    return [values[row] for row in rows] if isinstance(values, list) else values
