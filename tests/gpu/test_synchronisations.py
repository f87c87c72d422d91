"""Operations of a training step that make the host wait for the device."""

from collections import Counter

import pytest

from tests.gpu.models import experiment
from tests.gpu.synchronisations import CountSteps
from tests.gpu.training import train

A_STEP = 2
"""Largest number of waits in a step that is not logged; the operations that the tests without a
device count are none of these.
"""

STEPS = 3
"""After two that warm up."""


def test_a_step_waits_for_the_device_no_more_often_than_known(accelerator, device):
    if device.type != "cuda":
        pytest.skip("torch reports waits for CUDA alone")
    count = CountSteps()
    config = experiment("trainer.log_every_n_steps=1000")  # logged values are read by the host
    train(config, accelerator=accelerator, steps=2 + STEPS, side=64, callbacks=(count,))
    places = sum(count.steps[-STEPS:], start=Counter())
    waits = places.total() / STEPS
    report = "\n".join(f"{times / STEPS:5.1f}  {place}" for place, times in places.most_common())
    print(f"{waits:.1f} synchronising operations a step\n{report}")
    assert waits <= A_STEP, report
