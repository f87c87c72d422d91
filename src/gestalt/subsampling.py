"""Token sub-sampling: keep a random share of an image's patch tokens, in training only.  B batch, K
kept tokens.

Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3: images of twice the size, 80 % of
whose tokens are dropped. The paper does not say which: uniformly at random, independently for each
image, is our choice.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
"""Odd increment between counters.  Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators" (SplitMix64).
"""


def kept_tokens(total: int, share: float) -> int:
    """Return the number of tokens to keep: ``share`` of ``total``, rounded down, at least 1.

    The share is rounded to a short fraction first: 0.29 of 100 is 29, although ``100 * 0.29 < 29``
    in floats.
    """
    return max(1, math.floor(total * Fraction(share).limit_denominator(10**7)))


def keep_indices(sample_id: Tensor, epoch: Tensor, *, seed: int, total: int, kept: int) -> Tensor:
    """Draw the patch tokens that each image keeps: uniformly, without replacement.

    The result depends only on (seed, epoch, sample id), and is computed with integers, so it is
    identical on every device, in every batch and on every rank. The scores of an image are a
    bijection of distinct counters, so there are no ties.

    Args:
        sample_id: (B,) int64.
        epoch: (B,) int64.
        seed: seed of the run.
        total: N, number of patch tokens of an image.
        kept: K, number of tokens to keep, in [1, N].

    Returns:
        (B, K) int64, ascending row-major patch indices; the class token is not counted.

    Raises:
        ValueError: ``kept`` is outside [1, total].
    """
    if not 1 <= kept <= total:
        raise ValueError(f"cannot keep {kept} of {total} patch tokens: choose 1 to {total}")
    key = torch.full_like(sample_id, _signed(seed), dtype=torch.int64)
    for part in (epoch, sample_id):
        key = _mix(key + _signed(GOLDEN)) + part
    counter = torch.arange(1, total + 1, device=sample_id.device) * _signed(GOLDEN)
    scores = _mix(_mix(key + _signed(GOLDEN)).unsqueeze(1) + counter)  # (B, N)
    return scores.topk(kept, dim=1, largest=False).indices.sort(dim=1).values


def _mix(x: Tensor) -> Tensor:
    """Mix the bits of int64 values with a bijection.  Source: SplitMix64's finaliser (Stafford's
    variant 13).
    """
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right, filling with zeros: torch has no unsigned 64-bit arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """Read the low 64 bits of ``value`` as a signed integer."""
    return (value + 2**63) % 2**64 - 2**63
