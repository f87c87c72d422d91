"""A full disk under TensorBoard's log is reported once."""

import threading
from pathlib import Path

import pytest

from gestalt.runs.process import quiet


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_under_tensorboards_log_is_an_error_of_the_main_thread_alone(
    tmp_path, capsys, monkeypatch
):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    quiet(with_lightning=False)
    writer = EventFileWriter(str(tmp_path))
    monkeypatch.setattr(writer._general_file_writer, "filename", "/dev/full")

    def log_a_lot():
        for step in range(1, 100):
            writer.add_event(Event(step=step))
            writer.flush()

    with pytest.raises(OSError, match="No space left"):
        log_a_lot()
    assert capsys.readouterr().err == ""
