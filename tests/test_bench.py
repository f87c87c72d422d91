"""``make bench`` starts, and the implementations it compares agree; no test depends on timing."""

import json
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss

from gestalt.losses.captions import text_ids
from gestalt.models.start import build_model
from tests.gestalt.at_step import build_module
from tests.gestalt.command import gestalt

ROOT = Path(__file__).parents[1]
Part = Callable[[str], dict[str, Any]]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """``tests/bench WORDS``, from where make starts it."""
    return gestalt(*words, folder=ROOT, program=("tests/bench",))


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Part:
    """Run a file of ``tests/bench`` by name, beside its neighbours; returns its globals."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    return lambda name: runpy.run_path(str(ROOT / "tests" / "bench" / f"{name}.py"))


def test_the_steps_of_a_gpu_run_anywhere_with_tiny_towers(tmp_path):
    words = ("--only", "gpu", "--tiny", "--page", "--json", str(tmp_path / "results.json"))
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Gestalt at ")
    assert f"torch {torch.__version__}" in done.stdout.splitlines()[0]
    assert done.stdout.count("```") == 2
    results = json.loads((tmp_path / "results.json").read_text())["gpu"]
    assert [row["samples_per_second"] > 0 for row in results["rows"]] == [True, True]
    small, large = (row["tflop"] for row in results["rows"])
    # four times the patches are embedded, and a fifth of them kept
    assert 1.5 < large / small < 2.5
    assert all(row["setting"] in done.stdout for row in results["rows"])


def test_the_losses_that_are_timed_are_equal(part):
    results = part("loss")["measure"](sizes=(4,), large=8, width=4, rounds=1)
    assert results["rows"][0]["ratio"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_benchmark_without_a_gpu_is_reported_and_fails():
    done = bench("--only", "gpu")
    assert done.returncode == 2, done.stderr
    assert (
        done.stdout
        == "training steps on a GPU: left out; torch finds no CUDA device on this machine\n\n"
    )


@pytest.mark.slow
def test_both_implementations_of_evaluation_agree_and_ours_takes_a_tenth_of_the_memory(part):
    evaluation = part("evaluation")
    rows = [evaluation["measured"]("small", case, rounds=1) for case in evaluation["CASES"]]
    assert min(row["same_pixels"] for row in rows) > 0.9999
    assert [row["memory"] < 0.1 for row in rows if "171" in row["case"]] == [True]


def test_the_open_clip_counterpart_has_the_same_loss(part):
    rival = part("rival")
    cpu = torch.device("cpu")
    name, *_ = rival["SETTINGS"]
    config = rival["experiment"](name, device=cpu)
    model = build_model(config)
    batch = rival["whole_batch"](4, side=64, model=model)
    ids, _ = model.text_tower.pad(batch["text"])
    clip = rival["counterpart"](config, model, side=64, length=ids.shape[1])
    theirs = ClipLoss()(**clip(model.image_tower.normalise(batch["image"]), ids))
    made = model(batch["image"], batch["text"])
    module = build_module(config, model, total_steps=1)
    ours = module.loss(
        made.image,
        made.text,
        logit_scale=model.logit_scale,
        text_id=text_ids(batch["text"]),
        valid=None,
    ).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
