"""FLOP of a step: counted with attention on every device, and extended exactly from three batch sizes to any other."""

import pytest
import torch
from torch.nn import functional

from gestalt.planning.flops import FlopProbe, equal_steps, extended, operations


def counted(step) -> int:
    """FLOP of a function of two pairs, as the probe counts them."""
    probe = FlopProbe()
    batch = {"text": ["a", "b"]}
    probe.on_train_batch_start(None, None, batch, 0)
    step().sum().backward()
    probe.on_after_backward(None, None)
    probe.on_train_batch_end(None, None, None, batch, 0)
    assert list(probe.counts) == [2]
    return probe.counts[2]


def test_a_matrix_product_counts_two_flop_for_each_multiplication_and_both_gradients() -> None:
    weight, given = (torch.randn(size, requires_grad=True) for size in ((6, 5), (2, 6)))
    assert counted(lambda: given @ weight) == 3 * 2 * (2 * 6 * 5)


def test_attention_counts_as_its_two_products_and_their_four_gradients() -> None:
    query, key, value = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
    product = 2 * (2 * 3 * 7 * 7 * 4)
    assert counted(lambda: functional.scaled_dot_product_attention(query, key, value)) == 6 * product


def test_after_an_error_nothing_is_counted() -> None:
    probe = FlopProbe()
    probe.on_train_batch_start(None, None, {"text": ["a"]}, 0)
    probe.on_exception(None, None, ValueError())
    before = probe._counter.get_total_flops()
    torch.randn(3, 3) @ torch.randn(3, 3)
    assert probe._counter.get_total_flops() == before


def test_three_counts_give_the_flop_of_any_batch() -> None:
    def flop(pairs: int) -> int:
        return 41 * 10**9 + 7 * 10**8 * pairs + 3 * 512 * pairs**2

    counts = {pairs: flop(pairs) for pairs in (2, 4, 6)}
    assert [extended(counts, pairs=pairs) for pairs in (1, 4, 64, 32_768)] == [flop(pairs) for pairs in (1, 4, 64, 32_768)]
    with pytest.raises(ValueError, match="counted for 2 batch sizes, and the polynomial needs 3"):
        extended({2: 1, 4: 2}, pairs=8)


def test_steps_of_equal_cost_are_fewer_where_a_step_costs_more() -> None:
    assert equal_steps(900, flop=10, of=20) == 450
    assert equal_steps(900, flop=20, of=10) == 1800
    assert equal_steps(900, flop=17_450, of=17_680) == 888
    assert equal_steps(1, flop=1, of=10**6) == 1


def test_flop_have_a_readable_unit() -> None:
    assert [operations(count) for count in (2_000_000, 18_697_453_568, 16_827_708_211_200, 10**18)] == [
        *("0.002 GFLOP", "18.7 GFLOP", "16.83 TFLOP", "1 EFLOP"),
    ]
