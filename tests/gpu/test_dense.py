"""Dense evaluation: the device's label maps equal the CPU's, but for pixels whose best classes
tie.  K prompts, E width, H W pixels.

Scores are float32 on every device, and their last bits depend on the order of sums.  A tower in
float64 adds no rounding of its own.
"""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense import winners
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.winners import upsampled_argmax
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.model import DualEncoder
from tests.gpu.models import dual_encoder, images

# largest share of pixels that may differ; scores that move by 1e-5, a hundred roundings of float32,
# change none of them
TIED = 5e-4
SCORES = {"rtol": 1e-4, "atol": 1e-5}
SIZES = ((75, 100), (64, 64), (120, 71))
SETTINGS = {  # protocol, label set whose exceptions hold, what is changed
    "cosines": ("mmseg-448", None, {}),
    "affinity": ("mmseg-448/groupvit", None, {}),
    "sigmoid and PAMR": ("mmseg-448/tcl", None, {"refinement_dilations": (1, 2, 4)}),
    "probability": ("sclip-336", "context60", {"threshold": 0.6}),
    "areas": ("sclip-336", "voc21", {"threshold": 0.2}),
}


def small(name: str) -> TopDownProtocol:
    """A protocol at the size of the tiny tower: windows of 32 pixels that overlap by half."""
    protocol, label_set, changes = SETTINGS[name]
    return dataclasses.replace(
        top_down_protocol(protocol, label_set=label_set),
        input_size=48,
        window=32,
        stride=16,
        long_limit=None,
        **changes,
    )


@torch.no_grad()
def directions(model: DualEncoder, *, count: int) -> ClassEmbeddings:
    """Prompts in the directions of some locations less the mean: classes that differ from place to
    place, as a trained model's do.
    """
    rows = (
        model.embed_patches(torch.stack(images(*[(32, 32)] * 8, seed=1)))
        .permute(0, 2, 3, 1)
        .flatten(0, 2)
        .float()
    )
    vectors = functional.normalize(rows[:: len(rows) // count][:count] - rows.mean(dim=0), dim=1)
    return ClassEmbeddings(vectors, class_index=torch.arange(count), background=0, classes=count)


def moved(prompts: ClassEmbeddings, device: torch.device) -> ClassEmbeddings:
    """The prompts on the device."""
    return prompts._replace(
        vectors=prompts.vectors.to(device), class_index=prompts.class_index.to(device)
    )


def differing(measured: Tensor, expected: Tensor) -> float:
    """The share of pixels that differ."""
    return float((measured.cpu() != expected).double().mean())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_label_maps_equal_the_cpu(device, name, dtype):
    model, protocol = dual_encoder(dtype=dtype), small(name)
    prompts = directions(model, count=12)
    expected = top_down(model, images(*SIZES), prompts=prompts, protocol=protocol)
    inputs = [image.to(device) for image in images(*SIZES)]
    measured = top_down(
        copy.deepcopy(model).to(device), inputs, prompts=moved(prompts, device), protocol=protocol
    )
    # no map of one class
    assert (
        len(torch.cat([result.classes_before_threshold.flatten() for result in expected]).unique())
        > 4
    )
    for result, reference in zip(measured, expected, strict=True):
        assert result.prediction.device.type == device.type
        torch.testing.assert_close(result.score.cpu(), reference.score, **SCORES)
        assert (
            differing(result.classes_before_threshold, reference.classes_before_threshold) <= TIED
        )
        assert differing(result.prediction, reference.prediction) <= TIED


def test_a_map_of_exact_numbers_is_upsampled_to_the_very_same_winners(device, monkeypatch):
    monkeypatch.setattr(winners, "VALUES_AT_ONCE", 1000)
    # doubling adds 4 bits: no rounding
    maps = torch.randint(-64, 65, (9, 8, 12), generator=torch.Generator().manual_seed(0)) / 64
    expected = upsampled_argmax(maps, size=(16, 24))
    measured = upsampled_argmax(maps.to(device), size=(16, 24))
    assert torch.equal(measured.cpu(), expected)
