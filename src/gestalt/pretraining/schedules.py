"""Schedules by step, of the teacher's momentum and temperature and of the weight decay."""

import math


def half_cosine(step: int, *, start: float, end: float, total: int) -> float:
    """Go from ``start`` at step 0 along half a cosine to ``end`` at step ``total``; constant after.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.2, for the momentum, and its implementation details for the weight decay.
    """
    progress = min(step, total) / total
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def straight(step: int, *, start: float, end: float, steps: int) -> float:
    """Go in ``steps`` equidistant values from ``start`` to ``end``, both included; constant after, and ``end`` at once with 0 steps."""
    if step >= steps:
        return end
    return start + (end - start) * step / max(1, steps - 1)
