import pytest
import torch
from torch import Tensor

from gestalt.subsampling import keep_indices, kept_tokens

WORD = 2**64 - 1


def draw(
    sample_id: list[int] | Tensor, *, epoch: int = 0, seed: int = 0, total: int = 20, kept: int = 7
) -> Tensor:
    ids = torch.as_tensor(sample_id)
    return keep_indices(ids, torch.full_like(ids, epoch), seed=seed, total=total, kept=kept)


def unbounded_mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def unbounded_keep(sample_id: int, epoch: int, *, seed: int, total: int, kept: int) -> list[int]:
    """The same draw in Python's integers, which cannot overflow."""
    step = 0x9E3779B97F4A7C15
    key = seed & WORD
    for part in (epoch, sample_id):
        key = (unbounded_mix((key + step) & WORD) + part) & WORD
    start = unbounded_mix((key + step) & WORD)
    scores = [unbounded_mix((start + (i + 1) * step) & WORD) for i in range(total)]
    signed = [score - 2**64 if score >= 2**63 else score for score in scores]
    return sorted(sorted(range(total), key=lambda i: signed[i])[:kept])


@pytest.mark.parametrize(
    ("total", "share", "kept"),
    [
        (784, 0.2, 156),
        (100, 0.29, 29),
        (9, 1 / 3, 3),
        (784, 1.0, 784),
        (16, 0.01, 1),
        (1, 0.5, 1),
        (256, 0.2, 51),
    ],
)
def test_the_share_is_rounded_down_but_not_by_float_error(total, share, kept):
    assert kept_tokens(total, share) == kept


@pytest.mark.parametrize("kept", [0, 21])
def test_more_tokens_than_there_are_cannot_be_kept(kept):
    with pytest.raises(ValueError, match="choose 1 to 20"):
        draw([0], kept=kept)


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1, -1])
def test_each_row_of_a_batch_equals_a_reference_with_unbounded_integers(seed):
    drawn = [(0, 0), (1, 0), (2**33, 5), (10_968_538, 31)]
    expected = [unbounded_keep(*one, seed=seed, total=49, kept=10) for one in drawn]
    ids, epochs = torch.tensor(drawn).T
    assert keep_indices(ids, epochs, seed=seed, total=49, kept=10).tolist() == expected


def test_each_pair_of_tokens_is_kept_together_equally_often():
    rounds = 4000
    kept = torch.zeros(rounds, 20, dtype=torch.float64).scatter_(1, draw(torch.arange(rounds)), 1.0)
    together = (kept.T @ kept)[*torch.triu_indices(20, 20, offset=1)]
    expected = rounds * (7 / 20) * (6 / 19)
    assert (together - expected).abs().max().item() < 5 * expected**0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_bits_are_the_same_on_a_gpu():
    ids, epoch = torch.arange(300), torch.arange(300) % 7
    there = keep_indices(ids.cuda(), epoch.cuda(), seed=3, total=784, kept=156)
    assert torch.equal(there.cpu(), keep_indices(ids, epoch, seed=3, total=784, kept=156))
