"""The end of a run that lost a loading process."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from torch.utils.data import DataLoader, Dataset

from gestalt.commands.stopping import until_stopped


class Deadly(Dataset):
    """Kills the process that reads it."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def load():
    return list(DataLoader(Deadly(), num_workers=1, multiprocessing_context="fork"))


def index():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return list(pool.map(os._exit, [1]))


@pytest.mark.parametrize("work", [load, index])
def test_a_loading_process_that_was_killed_is_told_in_one_line(work, capsys):
    assert until_stopped(work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gestalt: a loading process was killed")
    assert "lower data.workers" in line


def test_another_error_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a fault of ours"):
        until_stopped(lambda: (_ for _ in ()).throw(RuntimeError("a fault of ours")))
