"""Image and text towers with random weights: forward and backward on the device equal the CPU's.  B
batch, N parts, D width.
"""

import copy

import pytest
import torch
from torch import Tensor

from gestalt.encoders.image import ImageTower
from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from tests.gestalt.tiny_model import with_image_tower
from tests.gpu.models import images

SMALL = {"width": 64, "depth": 2, "heads": 2}
TOWERS = {  # backbone: family, side in pixels, what is changed of it
    "vit_tiny_patch16_224": ("vit", 64, SMALL),
    "vit_small_patch14_reg4_dinov2": ("vit", 56, SMALL),  # registers, layer scale
    "eva02_tiny_patch14_224": ("vit", 56, SMALL),  # rotary position embeddings, SwiGLU
    "resnet18": ("cnn", 64, {}),
    "convnext_atto": ("cnn", 64, {}),
    "davit_tiny": ("cnn", 64, {}),  # attention in windows, and over channels
}
VITS = [name for name, row in TOWERS.items() if row[0] == "vit"]
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


def tower_of(backbone: str) -> ImageTower:
    """The tower in float64 on the CPU, in eval mode: batch norms and stochastic depth then depend
    on nothing but the weights.
    """
    family, side, changes = TOWERS[backbone]
    torch.manual_seed(0)
    tower = build_image_tower(Image(backbone, family, init="random", eval_size=side, **changes))
    return tower.double().eval()


def pixels(side: int, *, device: torch.device) -> Tensor:
    """(2, 3, side, side) uint8."""
    return torch.stack(images((side, side), (side, side))).to(device)


def parts_and_gradients(
    tower: ImageTower, pictures: Tensor, *, keep: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The parts, and the gradient of the sum of their squares; on the CPU."""
    parts = tower(pictures, keep).parts
    parts.square().mean().backward()
    return parts.detach().cpu(), {
        name: weight.grad.cpu()
        for name, weight in tower.named_parameters()
        if weight.grad is not None
    }


@pytest.mark.parametrize(
    ("backbone", "dropping"), [(name, False) for name in TOWERS] + [(name, True) for name in VITS]
)
def test_parts_and_gradients_equal_the_cpu(device, backbone, dropping):
    side, tower = TOWERS[backbone][1], tower_of(backbone)
    kept = torch.tensor([[0, 3, 5], [1, 2, 7]]) if dropping else None
    on_device = copy.deepcopy(tower).to(device)
    expected = parts_and_gradients(tower, pixels(side, device=torch.device("cpu")), keep=kept)
    measured = parts_and_gradients(
        on_device, pixels(side, device=device), keep=None if kept is None else kept.to(device)
    )
    torch.testing.assert_close(measured, expected, **CLOSE)
    assert all(bool(gradient.isfinite().all()) for gradient in measured[1].values())


@pytest.mark.parametrize("backbone", VITS)
def test_class_attention_equals_the_cpu(device, backbone):
    side, tower = TOWERS[backbone][1], with_image_tower(tower_of(backbone))
    on_device = copy.deepcopy(tower).to(device)
    with torch.no_grad():
        expected = tower.class_attention(pixels(side, device=torch.device("cpu")))
        measured = on_device.class_attention(pixels(side, device=device))
    assert measured.device.type == device.type
    torch.testing.assert_close(measured.cpu(), expected, **CLOSE)
