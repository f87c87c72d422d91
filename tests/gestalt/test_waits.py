"""Operations of a training step that would make the host wait for a device, counted on the CPU as
they are called.
"""

import pytest
import torch

from tests.gestalt.encoders.tiny_text import save_bert, save_t5
from tests.gestalt.tiny_config import tiny_config
from tests.gpu.models import experiment
from tests.gpu.synchronisations import CountSteps
from tests.gpu.training import train

STEPS, EVERY = 6, 4
LOGGED = 9
"""Metrics of a step that is logged, each of which Lightning reads for the logger."""


@pytest.mark.parametrize("save", [None, save_bert, save_t5])
def test_only_a_step_that_is_logged_waits_for_the_device(tmp_path, save):
    words = [f"trainer.log_every_n_steps={EVERY}", "image.init=random", "text.max_length=16"]
    config = experiment(*words)
    if save:
        words += [f"text.model={save(tmp_path)}"]
        config = tiny_config(*words)
    count = CountSteps(torch.device("cpu"))
    train(config, accelerator="cpu", steps=STEPS, side=64, callbacks=(count,))
    # of steps 1 to 5; what step 3 logs is read after this callback; 5 is the last
    waits = [sum(places.values()) for places in count.steps]
    # the first bad step and the loss are read; four numbers of the host are copied, by Lightning
    ours = 2 + 4
    assert waits == [0, 0, ours, LOGGED, ours], count.steps
