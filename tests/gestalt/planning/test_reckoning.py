"""The arithmetic of a plan: lines through measured sizes, the largest batch, loading processes, hours."""

import dataclasses

import pytest

from gestalt.planning.reckoning import (
    SPARE,
    Held,
    Line,
    Loading,
    Memory,
    Run,
    Validation,
    amount,
    checkpoint_bytes,
    duration,
    fitted,
    validations,
)

KEPT = {"weights": 100, "gradients": 100, "optimiser": 200}


def test_a_line_goes_through_both_sizes() -> None:
    assert fitted({4: 140.0, 8: 180.0}) == Line(100.0, 10.0)
    assert fitted({8: 180.0, 4: 140.0, 6: 999.0}).at(20) == 300


def test_a_memory_fit_without_growth_uses_the_estimated_slope() -> None:
    assert fitted({4: 180.0, 8: 180.0}, least=5.0) == Line(140.0, 5.0)
    assert fitted({2: 30.0}) == Line(0.0, 15.0)


def memory(*, ranks: int = 1, pair: float = 0.0) -> Memory:
    return Memory(KEPT, Line(0.0, 8.0), Line(420.0, 10.0), pair, ranks, Held())


@pytest.mark.parametrize(("ranks", "pair"), [(1, 0.0), (1, 0.5), (8, 0.5)])
def test_the_largest_batch_fits_and_the_next_does_not(ranks: int, pair: float) -> None:
    step = memory(ranks=ranks, pair=pair)
    largest = step.largest(10_000)
    assert step.total(largest) <= (1 - SPARE) * 10_000 < step.total(largest + 1)


def test_no_batch_fits_where_the_weights_do_not() -> None:
    assert memory().largest(300) == 0


def test_the_loss_grows_with_the_texts_of_all_devices() -> None:
    assert memory(ranks=4, pair=2.0).loss(3) == 2 * 3 * 12


def test_a_loss_in_blocks_holds_no_more_than_a_block() -> None:
    assert Held().at(100, texts=800) == 80_000
    assert [Held(block=1_000).at(batch, texts=40) for batch in (10, 100)] == [400, 1_000]
    assert Held(block=1_000, rows=2).at(100, texts=800) == 1_600
    assert dataclasses.replace(memory(ranks=4, pair=2.0), held=Held(block=30)).loss(3) == 2 * 30


def test_the_parts_sum_to_the_total() -> None:
    step = memory(ranks=2, pair=0.5)
    assert sum(step.parts(6).values()) == step.total(6)
    assert step.parts(6)["other"] == step.total(6) - 400 - 48 - 36


def test_the_wanted_number_of_workers_keeps_up_with_the_device() -> None:
    assert Loading(one=50.0, device=200.0, cores=16).wanted == 5
    assert Loading(one=50.0, device=200.0, cores=3).recommended == 3
    assert Loading(one=500.0, device=200.0, cores=3).recommended == 1


def test_the_run_time_sums_steps_and_validations() -> None:
    validation = Validation(fixed=4.0, batches=(10, 2), each=(1.0, 3.0))
    assert validation.seconds == 20
    assert Run(steps=100, step=2.0, validations=3, validation=validation.seconds).seconds == 260


@pytest.mark.parametrize(("steps", "epoch", "every", "count"), [(30, 10, 1, 3), (35, 10, 1, 4), (40, 10, 2, 2), (5, 10, 1, 1)])
def test_the_final_weights_are_validated_too(steps: int, epoch: int, every: int, count: int) -> None:
    assert validations(steps, epoch=epoch, every=every) == count


def test_a_checkpoint_has_no_gradients() -> None:
    assert checkpoint_bytes({**KEPT, "averages": 50}) == 350


def test_sizes_and_times_are_written_for_people() -> None:
    assert [amount(size) for size in (3_000, 5 * 2**20, 1.5 * 2**30, 300 * 2**30)] == ["3 KiB", "5.0 MiB", "1.5 GiB", "300 GiB"]
    assert [duration(seconds) for seconds in (0.5, 90, 600, 36_000)] == ["0.5 s", "90 s", "10 minutes", "10.0 hours"]
