"""Operations of a training step that would make the host wait for a device, counted on the CPU as
they are called.
"""

import torch

from tests.gpu.models import experiment
from tests.gpu.synchronisations import CountSteps
from tests.gpu.training import train

STEPS, EVERY = 6, 4
LOGGED = 11
"""Metrics of a step that is logged, each of which Lightning reads for the logger."""


def test_only_a_step_that_is_logged_waits_for_the_device() -> None:
    count = CountSteps(torch.device("cpu"))
    config = experiment(f"trainer.log_every_n_steps={EVERY}")
    train(config, accelerator="cpu", steps=STEPS, side=64, callbacks=(count,))
    # of steps 1 to 5; what step 3 logs is read after this callback; 5 is the last
    waits = [sum(places.values()) for places in count.steps]
    # the first bad step and the loss are read; six numbers of the host are copied, by Lightning
    ours = 2 + 6
    assert waits == [0, 0, ours, LOGGED, ours], count.steps
