"""Bytes that autograd keeps: counted once for each storage, weights not at all, and the loss apart from the model."""

import torch
from torch import nn

from gestalt.planning.machine import cores_for_each, disk_room, memory_room
from gestalt.planning.probes import Saved


def kept(count: int) -> dict[str, int]:
    """Keep the activations of a small model and of a product behind it."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid())
    given = torch.randn(count, 4)
    saved = Saved(model)
    out = model(given)
    loss = (out * out).sum()
    saved.stop()
    loss.backward()
    return saved.bytes


def test_activations_count_the_input_and_output_of_each_layer_once() -> None:
    assert kept(5) == {"activations": 4 * 5 * (4 + 6), "loss": 0}  # the product keeps the output that the sigmoid already keeps
    assert kept(10)["activations"] == 2 * kept(5)["activations"]


def test_nothing_is_counted_after_the_end() -> None:
    model = nn.Linear(3, 3)
    saved = Saved(model)
    saved.stop()
    model(torch.randn(2, 3)).sum().backward()
    assert saved.bytes == {"activations": 0, "loss": 0}


def test_measured_memory_cores_and_disk_space_are_positive(tmp_path) -> None:
    assert memory_room(torch.device("cpu")) > 2**20
    assert cores_for_each(10**6) == 1 <= cores_for_each(1)
    assert disk_room(tmp_path / "not" / "there") > 0
