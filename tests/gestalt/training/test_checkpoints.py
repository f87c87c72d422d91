"""Checkpoints: whole or absent, never half validated, and saved when somebody presses Ctrl-C."""

import csv
import os
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from gestalt.support.faults import describe
from gestalt.training.checkpoints import (
    AtomicCheckpointIO,
    EpochCheckpoint,
    Interrupted,
    SaveOnSignal,
    StepCheckpoint,
    restoring,
)
from gestalt.training.trainer import make_trainer
from tests.gestalt.at_step import QUIET


def test_a_disk_that_fills_during_a_checkpoint_leaves_the_previous_one_and_one_line(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": 0}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError, match="File too large") as raised:
            AtomicCheckpointIO().save_checkpoint(
                {f"weight{number}": torch.ones(10_000) for number in range(9)}, path
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert describe(raised.value) == (
        f"{path}: larger than the file system or `ulimit -f` allows; raise the limit or write "
        "elsewhere"
    )
    assert torch.load(path) == {"weight": 0}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_last_checkpoint_of_every_few_steps_is_kept_under_its_step(tmp_path):
    for step, name in ((3, "last.ckpt"), (4, "last.ckpt"), (6, "best.ckpt")):
        checkpoint = {"epoch": 1, "global_step": step}
        AtomicCheckpointIO(keep=2).save_checkpoint(checkpoint, tmp_path / name)
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "best.ckpt", "step_4.ckpt"}


class Trained:
    """The parts of a trainer that the callbacks read; records the saved files."""

    def __init__(self, folder: Path, *, last_batch: bool = False) -> None:
        keeper = EpochCheckpoint()
        keeper.dirpath = str(folder)
        self.checkpoint_callbacks = [keeper]
        self.is_last_batch, self.world_size = last_batch, 2
        self.strategy = SimpleNamespace(
            root_device=torch.device("cpu"),
            reduce=lambda tensor, reduce_op: tensor,
        )
        self.saved: list[Path] = []

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(path)


@pytest.mark.parametrize(("last_batch", "saves"), [(False, 1), (True, 0)])
def test_every_few_steps_a_checkpoint_is_saved_except_at_an_epochs_last_one(
    monkeypatch, tmp_path, last_batch, saves
):
    calls: list[object] = []
    monkeypatch.setattr(
        ModelCheckpoint, "on_train_batch_end", lambda self, *arguments: calls.append(arguments)
    )
    StepCheckpoint(every_steps=3).on_train_batch_end(
        Trained(tmp_path, last_batch=last_batch), None, None, None, 5
    )
    assert len(calls) == saves


@pytest.fixture
def listening(tmp_path):
    """A callback that handles signals, and its trainer; the earlier handlers are restored
    afterwards.
    """
    callback, trainer = SaveOnSignal(), Trained(tmp_path)
    callback.on_train_start(trainer, None)
    yield callback, trainer
    callback.teardown(trainer, None, "fit")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_then_saves_and_stops(listening, tmp_path, number):
    callback, trainer = listening
    callback.on_train_batch_end(trainer, None, None, None, 0)
    assert not trainer.saved
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=rf"stopped by {number.name}; saved .*last\.ckpt") as stop:
        callback.on_train_batch_end(trainer, None, None, None, 1)
    assert trainer.saved == [tmp_path / "last.ckpt"]
    assert (stop.value.signal_number, stop.value.checkpoint) == (number, tmp_path / "last.ckpt")


def test_a_signal_at_the_last_step_of_an_epoch_stops_before_the_next_without_a_second_save(
    listening,
):
    callback, trainer = listening
    os.kill(os.getpid(), signal.SIGTERM)
    trainer.is_last_batch = True
    callback.on_train_batch_end(trainer, None, None, None, 9)
    with pytest.raises(Interrupted):
        callback.on_train_epoch_start(trainer, None)
    assert not trainer.saved  # EpochCheckpoint has


def test_a_signal_to_another_rank_stops_this_one_too(listening):
    callback, trainer = listening
    trainer.strategy.reduce = lambda tensor, reduce_op: {"max": torch.maximum}[reduce_op](
        tensor, torch.tensor(int(signal.SIGUSR1))
    )
    with pytest.raises(Interrupted, match="stopped by SIGUSR1") as stop:
        callback.on_train_batch_end(trainer, None, None, None, 0)
    # by which the first rank queues the job again, whichever rank got it
    assert stop.value.signal_number == signal.SIGUSR1
    assert len(trainer.saved) == 1


class Line(BoringModel):
    """Learns to be the batch, and logs its loss."""

    def training_step(self, batch, index):
        loss = (self.layer.bias - batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("score", batch.mean())


def logged(folder: Path, *, epochs: int, resumed: Path | None = None) -> list[tuple[str, str]]:
    """Step and loss of each step that a run logs, whose epochs have three steps and a
    validation.
    """
    torch.manual_seed(0)
    logger = CSVLogger(folder, name="", version="csv")
    trainer = make_trainer(
        folder,
        rank_timeout=60,
        **{**QUIET, "logger": logger, "enable_checkpointing": True},
        max_epochs=-1,
        max_steps=3 * epochs,
        log_every_n_steps=1,
        callbacks=[EpochCheckpoint()],
    )
    trainer.fit(
        Line(),
        DataLoader(torch.ones(3, 1)),
        DataLoader(torch.ones(1, 1)),
        ckpt_path=resumed,
        weights_only=True if resumed else None,
    )
    with (folder / "csv/metrics.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_run_resumed_after_an_epoch_logs_the_same_rows_as_an_uninterrupted_run(tmp_path):
    whole = logged(tmp_path / "whole", epochs=2)
    assert [step for step, _ in whole] == [str(step) for step in range(6)]
    before = logged(tmp_path / "killed", epochs=1)
    (last,) = tmp_path.glob("killed/**/last.ckpt")
    assert before + logged(tmp_path / "resumed", epochs=2, resumed=last) == whole


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:Experiment logs directory",
    "ignore:Checkpoint directory",
)
def test_a_run_resumed_from_a_kept_checkpoint_keeps_its_newest_under_any_name_of_its_folder(cwd):
    logged(Path("run"), epochs=1)
    (last,) = cwd.glob("run/**/last.ckpt")
    shutil.copy(last, kept := last.with_name("kept.ckpt"))
    logged(cwd / "run", epochs=2, resumed=kept)
    assert torch.load(last, weights_only=True)["global_step"] == 6


def test_a_state_that_cannot_be_restored_is_one_line_and_other_errors_pass():
    module = torch.nn.Linear(2, 1)
    state = module.state_dict()
    refused = pytest.raises(ValueError, match=r"^a\.ckpt: cannot be resumed: .*bias[^\n]*$")
    with refused, restoring(Path("a.ckpt")):
        module.load_state_dict({**state, "bias": torch.zeros(3)})
    with pytest.raises(KeyError), restoring(None):
        state["none"]
