"""Unreadable samples of a run: counts by reason, one message each, and the limit that stops the
run.
"""

import pytest
import torch

from gestalt.training.bad_samples import FIRST_SAMPLES, BadSamples, TooManyBad
from tests.gestalt.at_step import trainer_at
from tests.gestalt.ranks import be_rank, run_ranks

REASONS = ("empty", "torn", "lost")
TRAINER = trainer_at(7)


class Module:
    """The logging and printing methods of a LightningModule."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}
        self.said: list[str] = []

    def log(self, key, value):
        self.logged[key] = value

    def log_dict(self, values):
        self.logged |= values

    def print(self, line):
        self.said.append(line)


def batch(*codes):
    return {
        "reason": codes,
        "place": ["" if code < 0 else f"shard {code}: row {row}" for row, code in enumerate(codes)],
        "column": ["long" if code < 0 else "" for code in codes],
    }


def counted(*batches, max_share=1.0):
    callback, module = BadSamples(REASONS, max_share=max_share), Module()
    for number, codes in enumerate(batches):
        callback.on_train_batch_start(TRAINER, module, batch(*codes), number)
    return callback, module


def test_every_bad_sample_is_counted_by_its_reason_and_the_first_of_each_is_named_once():
    callback, module = counted((-1, 1, -1, 1), (-1, -1, -1, -1), (2, 1, -1, -1))
    assert callback.record() == {
        "seen": 12,
        "bad": 4,
        "by_reason": {"lost": 1, "torn": 3},
        "first": {"torn": "shard 1: row 1", "lost": "shard 2: row 0"},
        "drawn_columns": {"long": 8},
    }
    assert module.logged == {"train/bad_samples": 4, "bad_samples/torn": 3, "bad_samples/lost": 1}
    assert [line.split(";")[0] for line in module.said] == [
        "bad sample, torn: shard 1: row 1",
        "bad sample, lost: shard 2: row 0",
    ]


def test_the_counts_are_restored_from_a_checkpoint():
    callback, _ = counted((-1, 1), (0, -1))
    fresh = BadSamples(REASONS, max_share=1.0)
    fresh.load_state_dict(callback.state_dict())
    assert fresh.record() == callback.record()
    module = Module()
    fresh.on_train_batch_start(TRAINER, module, batch(1, -1), 2)
    assert (fresh.record()["by_reason"], module.said) == ({"empty": 1, "torn": 2}, [])


def test_the_allowed_share_applies_from_the_first_samples():
    allowed = FIRST_SAMPLES // 10
    counted((*(1,) * allowed, -1), max_share=0.1)
    reasons = f"torn {allowed + 1}, first shard 1: row 0"
    with pytest.raises(
        TooManyBad,
        match=(
            rf"^{allowed + 1} of {allowed + 2} samples are bad at step 7, .*=0.1 of 1,000 samples: "
            rf"{reasons}"
        ),
    ):
        counted((*(1,) * (allowed + 1), -1), max_share=0.1)


def test_for_small_data_the_allowed_share_is_of_all_samples():
    small = BadSamples(REASONS, max_share=0.1, samples=200)
    small.on_train_batch_start(TRAINER, Module(), batch(*(1,) * 20, *(-1,) * 30), 0)
    with pytest.raises(
        TooManyBad,
        match=r"^21 of 60 samples are bad at step 7, more than .*of 200 samples: ",
    ):
        small.on_train_batch_start(TRAINER, Module(), batch(1, *(-1,) * 9), 1)


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt()])
def test_the_end_of_a_run_logs_a_summary_of_bad_samples(stop):
    callback, _ = counted((-1, 1, -1, 1), (-1, -1, -1, 0))
    fine, module = BadSamples(REASONS, max_share=1.0), Module()
    for each in (callback, fine):
        each.on_train_end(TRAINER, module) if stop is None else each.on_exception(
            TRAINER, module, stop
        )
    told, none = module.said
    assert told.startswith(
        "bad samples: 3 of 8 read (37.50%): empty 1, torn 2; the record has the first of each "
        "reason"
    )
    assert none == "bad samples: none of 0 read"


def test_a_reason_is_reported_with_its_remedy():
    callback, module = (
        BadSamples(REASONS, max_share=1.0, hints={"lost": "set data.options.images"}),
        Module(),
    )
    with pytest.raises(
        TooManyBad, match=r"lost 1, first shard 2: row 0; set data\.options\.images; "
    ):
        callback.on_train_batch_start(TRAINER, module, batch(2), 0)
    assert module.said[0].endswith("set data.options.images")


# the first rank reads nothing bad at first, the second a whole batch
STEPS = [[(-1, -1, 0), (1, 1, 2)], [(2, 1, -1), (-1, 0, 1)]]


def run_rank(rank):
    """Count each step, then the same steps summed at a checkpoint only, then two whole bad batches
    in the third step of five.
    """
    callback, module = counted(*(step[rank] for step in STEPS))
    late, other = BadSamples(REASONS, max_share=1.0), Module()
    for number, step in enumerate(STEPS):
        late.on_train_batch_start(trainer_at(number, every=100), other, batch(*step[rank]), number)
    unread, saved = late.record(), late.state_dict()
    stopping, codes = (
        BadSamples(REASONS, max_share=1.0),
        [(-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 2)],
    )
    for number, step in enumerate(codes[:4]):
        stopping.on_train_batch_start(trainer_at(number, every=5), other, batch(*step), number)
    with pytest.raises(TooManyBad) as stop:
        stopping.on_train_batch_start(trainer_at(4, every=5), other, batch(*codes[4]), 4)
    found = {"record": callback.record(), "logged": module.logged, "unread": unread["seen"]}
    return found | {"late": saved, "said": other.said, "stop": str(stop.value)}


@pytest.mark.slow
def test_two_ranks_count_bad_samples_like_one_process(tmp_path):
    alone, module = counted((-1, -1, 0, 1, 1, 2), (2, 1, -1, -1, 0, 1))
    found = run_ranks(__file__, tmp_path)
    expected = alone.record()
    # rows of a rank's own
    expected["first"] = {
        "empty": "shard 0: row 2",
        "torn": "shard 1: row 0",
        "lost": "shard 2: row 2",
    }
    assert [{key: rank[key] for key in ("record", "logged")} for rank in found] == [
        {"record": expected, "logged": module.logged}
    ] * 2
    for rank in found:
        assert rank["unread"] == 0
        assert rank["late"] == {
            "seen": 12,
            "counts": expected["by_reason"],
            "first": expected["first"],
            "drawn": expected["drawn_columns"],
        }
        assert rank["stop"].startswith(
            "8 of 12 samples are bad at step 2, a whole batch is bad: empty 2"
        )
    assert [line.split(";")[0] for line in found[0]["said"]] == [
        line.split(";")[0] for line in found[1]["said"]
    ]


if __name__ == "__main__":
    be_rank(run_rank)
