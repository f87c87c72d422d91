"""A model of the zoo is scored like one of ours, and its record names it."""

import json

import pytest

from tests.gestalt.command import gestalt
from tests.gestalt.models.zoo.test_open_clip import saved


@pytest.mark.slow
def test_a_guest_is_scored_and_recorded(tmp_path):
    saved(tmp_path / "model")
    words = (
        "evaluation.limit=5",
        "benchmark_subset=true",
        "trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
    )
    done = gestalt("eval", "zoo:open_clip:model", *words, "data.recipe=prototype", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "scenes/miou " in done.stdout
    (path,) = tmp_path.glob("lightning_logs/zoo/open_clip/model/evaluations/0.json")
    record = json.loads(path.read_text())
    assert (record["checkpoint"], record["image_init"]["resolved"]) == (
        "zoo:open_clip:model",
        "open_clip",
    )
    assert record["benchmarks"][0]["protocol"]["input_size"] == 32  # the model's own size
    assert record["model"]["library"] == "open_clip"
    assert record["model"]["architecture"]["embed_dim"] == 12
    assert record["config"]["evaluation"]["limit"] == 5
    assert "optimizer" not in record["config"]
    assert "backbone" not in record["config"]["image"]
    done = gestalt("compare", str(path), folder=tmp_path)
    assert "zoo model evaluation 0" in done.stdout, done.stderr
