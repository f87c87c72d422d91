"""Names of opened models."""

from pathlib import Path

from gestalt.models.opening import open_target, place_of
from tests.gestalt.tiny_model import save_run


def test_a_run_that_is_named_from_within_is_called_by_its_whole_path(tmp_path, monkeypatch):
    assert place_of({"checkpoint": "clippy:folder/last.ckpt"}) == "clippy:folder/last.ckpt"
    run = save_run(tmp_path)
    monkeypatch.chdir(run / "checkpoints")
    assert open_target("..").identity["run"] == str(run)
    assert open_target(str(Path("..") / "checkpoints" / "last.ckpt")).identity["run"] == str(run)
