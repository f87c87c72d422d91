"""The device of these tests, and what makes its arithmetic comparable with the CPU's.

``make gpu`` runs them.  Without a CUDA device they skip; ``GESTALT_GPU_TESTS_ON=cpu`` runs their
bodies on the CPU, to develop them.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, before ``-m`` selects; a warning, which a driver may add, is
    no failure.
    """
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker("gpu")
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The CUDA device, or a skip."""
    name = os.environ.get("GESTALT_GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(name)


@pytest.fixture(scope="session")
def accelerator(device: torch.device) -> str:
    """The device as ``trainer.accelerator`` names it."""
    return "gpu" if device.type == "cuda" else device.type


@pytest.fixture(autouse=True)
def alone(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the device to one test at a time: tests may run in several processes, and some of these
    measure memory or waits.
    """
    with (tmp_path_factory.getbasetemp().parent / f"{device.type}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def full_float32(device: torch.device) -> Iterator[None]:
    """Switch TF32 off in convolutions, where it is on by default and rounds their inputs to 10
    bits; products have it off already.
    """
    assert torch.get_float32_matmul_precision() == "highest"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
