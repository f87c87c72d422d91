"""A run on tars, some of whose samples are bad: killed at any step it resumes exactly, with any
number of workers and ranks.
"""

import json
import signal
from pathlib import Path

import pytest

from gestalt.data_modules.order import EndlessOrder
from tests.data_modules.files import picture
from tests.data_modules.tar_files import write_tar
from tests.gestalt.command import TINY, TWO_RANKS, gestalt, result

WITNESS = str(Path(__file__).with_name("witness.py"))
TRAIN = (
    f"train clippy_dino_max {TINY} checkpoint_every_steps=2 data.source=tars data.batch_size=8 "
    "data.window_shards=2 data.max_bad_share=0.5"
)
LENGTHS, STEPS = (9, 7, 11, 6), 8  # 33 samples: 4 steps of 8 an epoch, and one left over
# at step 2 it has nothing else
SECOND_RANKS = [index for _, index in EndlessOrder(LENGTHS, seed=0, window=2).keys(20, 24)]
ELSEWHERE = [index for _, index in EndlessOrder(LENGTHS, seed=0, window=2).keys(9, 11)]
BAD = dict(
    zip(
        SECOND_RANKS + ELSEWHERE,
        ("zero_bytes", "truncated", "not_an_image", "truncated", "empty_caption", "zero_bytes"),
        strict=True,
    )
)
pytestmark = pytest.mark.slow


def spoiled(number):
    """Image and caption of a sample, bad as planted."""
    image, caption = picture(number, side=(80, 60)), f"picture {number}".encode()
    fault = BAD.get(number)
    spoil = {"zero_bytes": b"", "truncated": image[: len(image) // 2], "not_an_image": b"<html>"}
    return spoil.get(fault, image), b" " if fault == "empty_caption" else caption


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, number = tmp_path_factory.mktemp("corpus"), 0
    for shard, length in enumerate(LENGTHS):
        members = []
        for _ in range(length):
            image, caption = spoiled(number)
            members += [(f"{number:05d}.jpg", image), (f"{number:05d}.txt", caption)]
            number += 1
        write_tar(folder / f"s-{shard}.tar", members)
    return folder


def run(folder, corpus, name, *, workers=0, ranks=1, kill=-1, more=""):
    """Train; return the samples of each step, from all ranks in rank order, and its loss."""
    line = f"{folder / name} {kill} {TRAIN} data.root={corpus} data.workers={workers} {more}"
    line += f" {TWO_RANKS}" if ranks == 2 else ""
    done = gestalt(*line.split(), folder=folder, program=(WITNESS,))
    assert done.returncode == (0 if kill < 0 else -signal.SIGKILL), done.stderr
    lines = [
        [json.loads(line) for line in (folder / f"{name}.{rank}").read_text().splitlines()]
        for rank in range(ranks)
    ]
    return {
        together[0]["step"]: {
            "seen": [sample for part in together for sample in part["seen"]],
            "valid": [valid for part in together for valid in part["valid"]],
            "loss": together[0]["loss"],
        }
        for together in zip(*lines, strict=True)
    }


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, corpus, "whole"), result(folder)


def test_no_sample_is_lost_or_repeated_and_bad_counts_match_the_planted_faults(whole):
    steps, record = whole
    assert sorted(steps) == list(range(STEPS))
    keys = [(epoch, number) for step in range(STEPS) for epoch, number, *_ in steps[step]["seen"]]
    assert sorted(keys[:33]) == [(0, number) for number in range(33)]
    assert len(set(keys)) == len(keys) == 64
    drawn = [BAD[number] for _, number in keys if number in BAD]
    assert [valid for step in range(STEPS) for valid in steps[step]["valid"]] == [
        number not in BAD for _, number in keys
    ]
    found = record["data"]["bad_samples"]
    assert found["by_reason"] == {reason: drawn.count(reason) for reason in sorted(set(drawn))}
    assert (found["seen"], found["bad"], record["data"]["left_over"]) == (64, len(drawn), 1)
    first = next(number for _, number in keys if BAD.get(number) == "truncated")
    assert found["first"]["truncated"].endswith(f".tar: {first:05d}")


def test_one_step_has_no_good_sample_on_the_second_rank(whole):
    assert whole[0][2]["valid"][4:] == [False] * 4
    assert any(whole[0][2]["valid"])


@pytest.mark.parametrize(
    ("kill", "before", "after"),
    [
        (5, {"workers": 0}, {"workers": 0}),
        (7, {"workers": 3}, {"workers": 1, "ranks": 2}),
        (5, {"workers": 1, "ranks": 2}, {"workers": 0, "ranks": 2}),
    ],
)
def test_a_run_killed_at_any_step_reads_the_same_samples_as_an_uninterrupted_run(
    whole, corpus, tmp_path, kill, before, after
):
    steps, record = whole
    killed = run(tmp_path, corpus, "killed", kill=kill, **before)
    resumed = run(tmp_path, corpus, "resumed", more="resume=last", **after)
    assert sorted(killed) == list(range(kill))
    assert sorted(resumed) == list(range((kill // 2) * 2, STEPS))  # from the checkpoint before
    for found, ranks in ((killed, before.get("ranks", 1)), (resumed, after.get("ranks", 1))):
        for step, line in found.items():
            assert line["seen"] == steps[step]["seen"]
            assert line["valid"] == steps[step]["valid"]
            assert line["loss"] == (
                steps[step]["loss"] if ranks == 1 else pytest.approx(steps[step]["loss"], rel=1e-4)
            )
    if before.get("ranks") == after.get("ranks"):
        assert all(
            resumed[step]["loss"] == killed[step]["loss"] for step in resumed.keys() & killed.keys()
        )
    assert result(tmp_path)["data"] == record["data"]
