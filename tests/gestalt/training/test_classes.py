"""Loggers beside TensorBoard: accepted classes, their arguments, and their run that a resumed run
continues; further callbacks.
"""

import csv
import sys
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader

from gestalt.config.schema import to_plain
from gestalt.encoders.checkpoints import read_checkpoint
from gestalt.models.names import CHECKPOINT
from gestalt.support.typed import ConfigError
from gestalt.training.board import write_picture
from gestalt.training.classes import (
    Loggers,
    build_callbacks,
    build_loggers,
    check_loggers,
    naming_callbacks,
)
from gestalt.training.keys import CLASS_PATHS
from tests.gestalt.command import TINY, killed, succeed
from tests.gestalt.measures.stage import Stub, quiet
from tests.gestalt.tiny_config import tiny_config

CSV = "lightning.pytorch.loggers.CSVLogger"
MODULE = """
from lightning.pytorch.loggers import Logger

class Notes(Logger):
    name, version = "notes", None

    def __init__(self, save_dir, run_id=None, colour="red"):
        super().__init__()
        self.given, self.version = (save_dir, colour), run_id or "new"
        self.hyperparameters, self.metrics = None, []

    def log_hyperparams(self, params):
        self.hyperparameters = params

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))
"""


def configured(*logger: str):
    return tiny_config(f"logger=[{','.join(logger)}]")


def built(config, folder: Path, *, saved=None) -> Loggers:
    return build_loggers(config.logger, folder, keys=to_plain(config), saved=saved)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The class path of a logger in a file on the path."""
    (tmp_path / "planted_notes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "planted_notes.Notes"
    sys.modules.pop("planted_notes", None)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"logger={CSV}", f"logger: {CSV} is not a list; write"),
        (
            "logger=[csv]",
            r"logger=csv: not the path of a class; choose one such as "
            r"lightning\.pytorch\.loggers\.CSVLogger",
        ),
        (
            f"logger=[{{class_path: {CSV}, init_args: [3]}}]",
            r"logger\[0\]\.init_args: must be a mapping",
        ),
    ],
)
def test_an_invalid_logger_entry_is_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(word)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("builtins.dict", "not a Logger of Lightning; choose one such as lightning"),
        ("nowhere.Notes", "cannot be imported: ModuleNotFoundError: .* on PYTHONPATH"),
        ("lightning.pytorch.loggers.TensorBoardLogger", "TensorBoard is written in any case"),
    ],
)
def test_a_class_that_is_not_a_logger_is_refused(path, message):
    with pytest.raises(ConfigError, match=rf"logger={path}: .*{message}"):
        check_loggers(configured(path).logger)


def test_a_logger_gets_its_arguments_the_folder_and_the_configuration(notes, tmp_path):
    config = configured(f"{{class_path: {notes}, init_args: {{colour: blue}}}}")
    further = built(config, tmp_path / "version_0")
    (logger,) = further.loggers.values()
    assert logger.given == (str(tmp_path / "version_0"), "blue")
    further.on_train_start(SimpleNamespace(is_global_zero=False), None)
    assert logger.hyperparameters is None
    further.on_train_start(SimpleNamespace(is_global_zero=True), None)
    assert logger.hyperparameters["image"]["aggregation"] == "max"


def test_a_logger_that_cannot_be_built_is_reported_in_one_line(notes, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"logger=planted_notes\.Notes: TypeError: .*'color'.*; change logger, or leave it",
    ):
        built(
            configured(f"{{class_path: {notes}, init_args: {{color: blue}}}}"), tmp_path, saved=None
        )


def test_the_checkpoint_keeps_the_run_of_each_logger_and_a_resumed_run_continues_it(
    notes, tmp_path
):
    config = configured(notes, CSV, f"{{class_path: {notes}, init_args: {{run_id: mine}}}}")
    first = built(config, tmp_path)
    kept = {**first.state_dict(), f"0 {notes}": "abc"}
    assert kept == {f"0 {notes}": "abc", f"1 {CSV}": "csv", f"2 {notes}": "mine"}
    resumed = built(
        config, tmp_path, saved={"callbacks": {first.state_key: kept}, "global_step": 0}
    )
    assert resumed.state_dict() == kept
    # its run had no loggers
    older = built(config, tmp_path, saved={"callbacks": {}, "global_step": 0})
    assert older.state_dict()[f"0 {notes}"] == "new"


def test_a_resumed_run_appends_to_the_rows_of_the_checkpoints_steps(tmp_path):
    config = configured(CSV)
    (first,) = built(config, tmp_path).loggers.values()
    for step in range(4):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    (second,) = built(config, tmp_path, saved={"callbacks": {}, "global_step": 2}).loggers.values()
    second.log_metrics({"accuracy": 0.5, "loss": 9.0}, 2)
    second.save()
    with (tmp_path / "csv/metrics.csv").open() as file:
        rows = [(row["step"], row["loss"], row["accuracy"]) for row in csv.DictReader(file)]
    assert rows == [("0", "0.0", ""), ("1", "1.0", ""), ("2", "9.0", "0.5")]


def test_pictures_are_passed_to_loggers_with_log_image(tmp_path):
    taken = []
    takes = SimpleNamespace(log_image=lambda **given: taken.append(given))
    trainer = SimpleNamespace(
        loggers=[CSVLogger(tmp_path, name="", version="csv"), takes, SimpleNamespace()],
        global_step=3,
    )
    picture = Image.new("RGB", (2, 2))
    write_picture(trainer, picture=picture, tag="scenes/pictures/0", stem="a")
    assert taken == [{"key": "scenes/pictures/0", "images": [picture], "step": 3}]
    assert (tmp_path / "csv/pictures/scenes/a.png").is_file()


@pytest.mark.parametrize("closed", [False, True])
def test_tensorboard_shows_the_picture_that_the_file_holds(tmp_path, closed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoardLogger(tmp_path, name="", version="board")
    if closed:
        board.experiment.close()
    picture = Image.effect_noise((40, 30), 50).convert("RGB")
    write_picture(
        SimpleNamespace(loggers=[board], global_step=3),
        picture=picture,
        tag="scenes/pictures/0",
        stem="a",
    )
    board.experiment.close()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    (event,) = events.Images("4 pictures/scenes/pictures/0")
    assert (event.step, event.width, event.height) == (3, 40, 30)
    for source in (
        BytesIO(event.encoded_image_string),
        tmp_path / "board/pictures/scenes/a.png",
    ):
        with Image.open(source) as shown:
            assert (shown.format, shown.mode, shown.tobytes()) == ("PNG", "RGB", picture.tobytes())


BEST = "lightning.pytorch.callbacks.ModelCheckpoint, init_args: {filename: best}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (CSV, "not a Callback of Lightning"),
        ("nowhere.Mine", "cannot be imported"),
        (f"{{class_path: {BEST}}}", "last and best are the run's own; set dirpath"),
    ],
)
def test_a_callback_is_imported_and_refused_where_it_is_built(entry, message):
    config = tiny_config(f"trainer.callbacks=[{entry}]")
    with pytest.raises(ConfigError, match=rf"trainer\.callbacks=.*: {message}"):
        build_callbacks(config.trainer.callbacks)


OF_LIGHTNING = "lightning.pytorch.callbacks"


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("BackboneFinetuning", "AttributeError: 'Stub' object has no attribute 'backbone'"),
        ("BaseFinetuning", "NotImplementedError"),
        ("DeviceStatsMonitor", "ModuleNotFoundError: .*`psutil` is not installed"),
        ("LearningRateFinder", "AttributeError: .*should have one of these fields: .'lr'"),
        ("RichProgressBar", "MisconfigurationException: .*`enable_progress_bar=False` but found"),
        ("EarlyStopping, init_args: {monitor: nothing}", "RuntimeError: .*which is not available"),
        (CLASS_PATHS["trainer.callbacks"].rpartition(".")[2], ""),  # which messages recommend
    ],
)
def test_a_callback_that_cannot_work_is_named_in_one_line(kind, said, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{OF_LIGHTNING}.device_stats_monitor._PSUTIL_AVAILABLE", False)
    word = f"trainer.callbacks=[{{class_path: {OF_LIGHTNING}.{kind}}}]"
    entries = tiny_config(word).trainer.callbacks
    match = f"^trainer.callbacks={OF_LIGHTNING}.{kind.partition(',')[0]}: {said}.*; change trainer"
    refused = pytest.raises(ConfigError, match=match) if said else nullcontext()
    with refused, naming_callbacks(entries):
        callbacks, logger = build_callbacks(entries), CSVLogger(tmp_path)
        trainer = quiet(max_epochs=1, callbacks=callbacks, logger=logger, log_every_n_steps=1)
        trainer.fit(Stub(), DataLoader([0.0]))


class Steps(Callback):
    """Counts the steps of a run in its state."""

    count = 0

    def on_train_batch_end(self, *_):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state_dict):
        self.count = state_dict["count"]


@pytest.mark.slow
def test_a_killed_run_has_each_step_once_in_its_csv_and_in_a_callback_after_it_resumed(tmp_path):
    train = f"train clippy_random_max {TINY} trainer.log_every_n_steps=1 logger=[{CSV}]"
    train += f" trainer.callbacks=[{__name__}.Steps]"
    killed("step 6", train, folder=tmp_path)
    succeed(f"{train} resume=last", folder=tmp_path)
    (run,) = tmp_path.glob("lightning_logs/*/*/version_0")
    assert read_checkpoint(run / CHECKPOINT)["callbacks"]["Steps"] == {"count": 8}
    path = run / "csv/metrics.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    losses = {row["step"]: row["train/loss"] for row in rows if row["train/loss"]}
    assert list(losses) == [str(step) for step in range(8)]
    assert len(set(losses.values())) == 8
    assert len([row for row in rows if row["scenes/miou"]]) == 2
