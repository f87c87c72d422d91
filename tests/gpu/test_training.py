"""Training steps on the device: in float32 as on the CPU, in bf16-mixed finite and close to
float32.
"""

import pytest
import torch

from tests.gpu.models import experiment
from tests.gpu.training import train

STEPS, SIDE = 6, 64
BF16 = 0.01  # largest difference of a loss from that in float32, as a share; on a CPU it is 6e-4


@pytest.fixture(scope="module")
def cpu_losses() -> list[float]:
    """The losses on the CPU in float32."""
    return train(experiment(), accelerator="cpu", steps=STEPS, side=SIDE)[1]


def test_float32_steps_give_the_losses_of_the_cpu(accelerator, cpu_losses):
    _, losses = train(experiment(), accelerator=accelerator, steps=STEPS, side=SIDE)
    assert losses == pytest.approx(cpu_losses, rel=1e-4)


def test_bf16_steps_are_finite_and_close(accelerator, device, cpu_losses):
    module, losses = train(
        experiment("trainer.precision=bf16-mixed"), accelerator=accelerator, steps=STEPS, side=SIDE
    )
    assert losses == pytest.approx(cpu_losses, rel=BF16)
    assert losses != cpu_losses
    state = module.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert [name for name, value in state.items() if not bool(value.isfinite().all())] == []
