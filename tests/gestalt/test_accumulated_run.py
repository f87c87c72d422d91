"""A run whose steps are made of several batches against one whose batch is as large."""

import shutil

import pytest

from tests.gestalt.command import KILL, gestalt, result, same

pytestmark = pytest.mark.slow
TRAIN = (
    "train",
    "clippy_dino_max",
    "--scale",
    "tiny",
    "trainer.enable_progress_bar=false",
    "checkpoint_every_steps=3",
)
QUARTERS, HALVES = (
    (f"data.batch_size={size}", f"trainer.accumulate_grad_batches={count}")
    for size, count in ((4, 4), (8, 2))
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = gestalt(*TRAIN, folder=folder)
    assert done.returncode == 0, done.stderr
    return result(folder)


def equal(found, expected):
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["metrics"]["scenes/miou"] == pytest.approx(
        expected["metrics"]["scenes/miou"], abs=2e-3
    )
    for key in ("steps", "steps_planned", "config_hash", "data"):
        assert found[key] == expected[key], key


@pytest.fixture(scope="module")
def quarters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quarters")
    return folder, gestalt(*TRAIN, *QUARTERS, folder=folder)


def test_accumulating_four_batches_trains_like_one_batch_of_four_times_the_size(whole, quarters):
    folder, done = quarters
    assert done.returncode == 0, done.stderr
    assert "8 steps of 16 pairs in 4 batches of 4, 4 an epoch" in done.stderr
    equal(result(folder), whole)


def test_a_run_killed_while_accumulating_resumes_to_the_same_result_on_one_or_two_ranks(
    whole, quarters, tmp_path
):
    killed, divided = tmp_path / "killed", tmp_path / "divided"
    killed.mkdir()
    gestalt("step", "6", *TRAIN, *QUARTERS, folder=killed, program=(KILL,))
    shutil.copytree(killed, divided)
    done = gestalt(*TRAIN, *QUARTERS, "resume=last", folder=killed)
    assert done.returncode == 0, done.stderr
    same(result(killed), result(quarters[0]))
    done = gestalt(
        *TRAIN, *HALVES, "trainer.devices=2", "trainer.strategy=ddp", "resume=last", folder=divided
    )
    assert done.returncode == 0, done.stderr
    assert len(list(divided.glob("lightning_logs/*/*/version_*"))) == 1
    equal(result(divided), whole)
