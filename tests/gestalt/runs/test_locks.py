"""Locks between processes."""

import errno
import multiprocessing
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from gestalt.runs.locks import Held, hold
from gestalt.support.typed import ConfigError


def _hold(file, taken):
    with hold(Path(file), busy=""):
        taken.set()
        time.sleep(60)


def test_a_lock_is_refused_while_another_process_holds_it_and_free_when_that_dies(tmp_path):
    context = multiprocessing.get_context("fork")
    taken = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / ".lock"), taken))
    holder.start()
    assert taken.wait(20)
    with pytest.raises(ConfigError, match="another has it: try again"):
        hold(tmp_path / ".lock", busy="another has it: try again")
    holder.kill()
    holder.join()
    with hold(tmp_path / ".lock", busy="never"):
        pass


def test_a_file_system_without_locks_is_named_and_is_not_taken_for_a_busy_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("fcntl.lockf", Mock(side_effect=OSError(errno.ENOLCK, "none")))
    with pytest.raises(ConfigError, match=r"\.lock: its file system has no locks") as refusal:
        hold(tmp_path / ".lock", busy="never")
    assert not isinstance(refusal.value, Held)
