"""Batches on a copy stream: the same bits, no wait of the host, and the copy beside the work before it."""

import pytest
import torch

from data_modules.copying import CopyStream
from tests.gpu.models import batch
from tests.gpu.synchronisations import counted


@pytest.fixture
def copies(device: torch.device) -> CopyStream:
    """A copy stream, or a skip on a device without streams."""
    if device.type != "cuda":
        pytest.skip("a CPU has no streams")
    return CopyStream(torch.device(device.type, torch.cuda.current_device()))


def pinned(seed: int) -> dict:
    return {key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in batch(8, side=224, seed=seed).items()}


def test_a_copied_batch_equals_the_batch_of_the_loader(copies: CopyStream) -> None:
    work = torch.randn(2048, 2048, device=copies.device)
    for seed in range(20):
        moved = copies.copied(pinned(seed))
        work = (work @ work).clamp(-1, 1)  # keeps the device busy while later copies are queued
        doubled = moved["image"].long() * 2
        expected = batch(8, side=224, seed=seed)
        assert doubled.cpu().equal(expected["image"].long() * 2)
        assert moved["sample_id"].cpu().equal(expected["sample_id"])
        assert moved["text"] == expected["text"]
        assert moved["valid_count"] == 8


def test_the_host_does_not_wait_for_a_copy(copies: CopyStream, device: torch.device) -> None:
    ready = [pinned(seed) for seed in range(3)]
    with counted(device) as places:
        for each in ready:
            copies.copied(each)
    assert not places
