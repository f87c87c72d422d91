"""Schedules by step."""

import math

import pytest

from gestalt.schedule import half_cosine


def test_the_momentum_rises_to_one_along_a_half_cosine():
    values = [half_cosine(step, start=0.996, end=1.0, total=100) for step in range(101)]
    assert values[0] == pytest.approx(0.996)
    assert values[100] == 1
    assert values[50] == pytest.approx(0.998)
    assert values == sorted(values)
    assert values[25] == pytest.approx(1 - 0.004 * (1 + math.cos(math.pi / 4)) / 2)


def test_a_schedule_stays_at_its_end():
    assert half_cosine(150, start=0.04, end=0.4, total=100) == 0.4
