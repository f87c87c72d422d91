"""Time the validations of a demo run: the first, with its baselines and the drawing of the scenes,
and later ones.

Times are of the processor, user and system, of the process and of its loading processes.
"""

import os
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from clock import DEVICE, seconds
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from step import TrainingStep

from gestalt.building.evaluation import build_evaluation
from gestalt.building.model import build_model
from gestalt.building.source import build_source, steps
from gestalt.building.training import build_data, build_module
from gestalt.config.loading import load
from gestalt.training.trainer import keywords_of, make_trainer

TARGET = 0.05
"""Validations as a share of a run's steps."""

LATER = 3
STEPS = 5


class Taken(Callback):
    """The seconds between the last step of each epoch and the end of the epoch, in which it is
    validated.
    """

    def __init__(self) -> None:
        self.taken: list[dict[str, float]] = []
        self._start: dict[str, float] = {}

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock: a validation follows."""
        self._start = processor()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Note what the validation took."""
        self.taken.append({name: value - self._start[name] for name, value in processor().items()})


def processor() -> dict[str, float]:
    """Return the seconds of the processor so far, of this process and of loading processes that
    have ended.
    """
    times = os.times()
    return {
        "process": times.user + times.system,
        "loading": times.children_user + times.children_system,
    }


def validations(folder: Path) -> list[dict[str, float]]:
    """Validate a fresh model of the demo as a run does: one set of loaders, baselines counted
    once.
    """
    config = load(
        "clippy_random_max", scale="demo", overrides=["trainer.enable_progress_bar=false"]
    )
    data, scorers = build_evaluation(config)
    taken = Taken()
    keywords = keywords_of(config.trainer) | {
        "rank_timeout": config.rank_timeout,
        "max_epochs": 1 + LATER,
        "limit_train_batches": 1,
    }
    board = TensorBoardLogger(folder, name="", version="board")
    trainer = make_trainer(
        folder / "board", **keywords, logger=[board], callbacks=[*scorers, taken]
    )
    source = build_source(config)
    module = build_module(config, build_model(config), total_steps=steps(config, source)[1])
    trainer.fit(module, datamodule=build_data(config, source, validation=data))
    return taken.taken


def measure() -> dict[str, Any]:
    """Measure validations and steps in one process."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    config = load("clippy_random_max", scale="demo", overrides=["data.workers=0"])
    step = TrainingStep(
        config,
        iter(build_data(config, build_source(config), validation=None).train_dataloader()),
        device=DEVICE,
    )
    parts = (step.image_forward, step.text_forward, step.loss, step.backward, step.optimiser)

    def busy() -> float:
        step.data()
        before = processor()["process"]
        for part in parts:
            seconds(part)
        return processor()["process"] - before

    busy()
    with tempfile.TemporaryDirectory() as folder:
        first, *later = validations(Path(folder))
    one = statistics.median(busy() for _ in range(STEPS))
    _, total = steps(config, build_source(config))
    epochs = config.trainer.max_epochs
    again = {name: statistics.median(row[name] for row in later) for name in first}
    sums = {name: first[name] + (epochs - 1) * again[name] for name in first}
    return {
        "first": first,
        "later": again,
        "validations": epochs,
        "steps": total,
        "step": one,
        "share": sums["process"] / (total * one),
    }


def show(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        "validations of a demo run, seconds of the processor in the process and in its loading "
        "processes"
    )
    for name in ("first", "later"):
        print(f"  {name:6} {results[name]['process']:6.2f} and {results[name]['loading']:.2f}")
    whole = results["steps"] * results["step"]
    print(
        f"  {results['validations']} of them take {results['share']:.1%} of {results['steps']} "
        f"steps ({whole:.0f} s) in the process"
    )
    print(f"  target: at most {TARGET:.0%}: {'yes' if results['share'] <= TARGET else 'NO'}\n")
