"""A run whose steps are made of several batches against one whose batch is as large."""

import shutil

import pytest

from tests.gestalt.command import TRAIN, TWO_RANKS, killed, result, same, succeed
from tests.gestalt.test_ranks import close

pytestmark = pytest.mark.slow
QUARTERS, HALVES = (
    f"{TRAIN} data.batch_size={size} trainer.accumulate_grad_batches={count}"
    for size, count in ((4, 4), (8, 2))
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    succeed(TRAIN, folder=folder)
    return result(folder)


def equal(found, expected):
    close(found, expected)
    for key in ("steps", "steps_planned", "config_hash", "data"):
        assert found[key] == expected[key], key


@pytest.fixture(scope="module")
def quarters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quarters")
    return folder, succeed(QUARTERS, folder=folder)


def test_accumulating_four_batches_trains_like_one_batch_of_four_times_the_size(whole, quarters):
    folder, done = quarters
    assert "8 steps of 16 pairs in 4 batches of 4, 4 an epoch" in done.stderr
    equal(result(folder), whole)


def test_a_run_killed_while_accumulating_resumes_to_the_same_result_on_one_or_two_ranks(
    whole, quarters, tmp_path
):
    resumed, divided = tmp_path / "resumed", tmp_path / "divided"
    resumed.mkdir()
    killed("step 6", QUARTERS, folder=resumed)
    shutil.copytree(resumed, divided)
    succeed(f"{QUARTERS} resume=last", folder=resumed)
    same(result(resumed), result(quarters[0]))
    succeed(f"{HALVES} {TWO_RANKS} resume=last", folder=divided)
    assert len(list(divided.glob("lightning_logs/*/*/version_*"))) == 1
    equal(result(divided), whole)
