"""The end of a run that lost a loading process."""

import os
import signal
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from torch.utils.data import DataLoader

from gestalt.commands.stopping import interrupted
from gestalt.support.faults import describe
from gestalt.support.process import Interrupted
from tests.data_modules.files import write_flickr
from tests.gestalt.command import run_here


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def load():
    return list(DataLoader([0], collate_fn=die, num_workers=1, multiprocessing_context="fork"))


def index():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return list(pool.map(os._exit, [1]))


@pytest.mark.parametrize("work", [load, index])
def test_a_killed_loading_process_is_reported_in_one_line(work):
    with pytest.raises(RuntimeError) as error:
        work()
    line = describe(error.value)
    assert line.startswith("a loading process was killed")
    assert "lower data.workers" in line
    assert "\n" not in line


def test_an_inspection_whose_loading_process_was_killed_is_one_line(cwd, monkeypatch, capsys):
    write_flickr(cwd / "flickr")
    monkeypatch.setattr("gestalt.data_modules.tools.inspection._examine", die)
    run_here("data inspect flickr data.root=flickr data.workers=1", status=1)
    assert capsys.readouterr().err.startswith("gestalt: a loading process was killed")
    assert not list(cwd.glob("**/*.json"))


def test_a_stopped_evaluation_says_what_the_same_command_does(capsys):
    arguments = Namespace(command="eval", words=[])
    assert interrupted(Interrupted(signal.SIGTERM), arguments) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith("the same command begins anew\n")


@pytest.mark.parametrize(
    ("resume", "ending"),
    [
        (None, "train max resume=last"),
        ("last", "; the same command continues from there"),
        ("run/checkpoints/step=5.ckpt", "train max resume={run}"),
    ],
)
def test_a_stopped_training_says_how_its_newest_checkpoint_goes_on(
    resume, ending, tmp_path, capsys
):
    words = ["train", "max", *([] if resume is None else [f"resume={resume}"])]
    arguments = Namespace(command="train", checked=Namespace(resume=resume), words=words)
    interrupted(Interrupted(signal.SIGTERM, tmp_path / "run/checkpoints/last.ckpt"), arguments)
    assert capsys.readouterr().err.endswith(f"{ending.format(run=tmp_path / 'run')}\n")
