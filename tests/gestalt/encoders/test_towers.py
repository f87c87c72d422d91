"""Laws of all image and text towers, built in, added by packages, and those of the example."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from gestalt.encoders.keys import Image, Text
from gestalt.encoders.towers import build_image_tower, build_text_tower
from gestalt.tables import IMAGE_TOWERS, TEXT_TOWERS
from tests.gestalt.encoders.tiny_text import save_bert
from tests.gestalt.painted import random_pixels

sys.path.append(str(Path(__file__).resolve().parents[3] / "docs/examples"))
pytest.importorskip("towers")
DINO, HERE = "python:towers:Dinov2", f"python:{__name__}:"
CNN = f"{HERE}Cnn"
SIZES = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2}
CAPTIONS = ["a dog", "a photo of two apples and a cat on the grass"]
over_images = pytest.mark.laws(IMAGE_TOWERS, [DINO, CNN])


class Cnn(nn.Module):
    mean, std, stride = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 8

    def __init__(self, image):
        super().__init__()
        self.width = image.width
        self.blocks = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Conv2d(8, self.width, 2, stride=2)
        )

    def forward(self, pixels):
        return self.blocks(pixels)


def image_tower(name, **changes):
    torch.manual_seed(0)
    keys = {"backbone": "resnet18"} if name == "cnn" else SIZES
    keys |= {"family": name, "init": "random", "eval_size": 64, "keep_tokens": 1.0}
    return build_image_tower(Image(**keys | changes))


@over_images
@torch.no_grad()
def test_image_tokens_are_a_grid_and_a_pure_function_of_each_image(name):
    tower, images = image_tower(name).eval(), random_pixels(2, 3, 64, 128)
    tokens = tower(images)
    height, width = tokens.grid
    assert (height * tower.stride[0], width * tower.stride[1]) == (64, 128)
    assert tokens.parts.shape == (*tokens.mask.shape, tower.width)
    assert tokens.mask.sum() == 2 * height * width
    assert_close(tower(images[1:]).parts, tokens.parts[1:], rtol=1e-4, atol=1e-5)
    if tower.drops_tokens:  # none, in another order
        keep = torch.arange(height * width).flip(0).expand(2, -1)
        kept = tower(images, keep)
        assert kept.grid is None
        assert_close(kept.parts, tokens.parts.flip(1), rtol=1e-4, atol=1e-5)


@over_images
def test_an_image_tower_loads_its_state_and_trains_what_is_not_frozen(name):
    tower, again, images = image_tower(name), image_tower(name), random_pixels(2, 3, 64, 64)
    nn.init.normal_(next(tower.parameters()))
    again.load_state_dict(tower.state_dict())
    assert again.eval()(images).parts.equal(tower.eval()(images).parts)
    torch.autograd.backward(tower.train()(images).parts.square().sum())
    assert all((each.grad is not None) == each.requires_grad for each in tower.parameters())
    frozen = image_tower(name, frozen=True).train()
    before = [buffer.clone() for buffer in frozen.buffers()]
    assert not frozen(images).parts.requires_grad
    assert all(map(torch.equal, before, frozen.buffers()))
    partly = image_tower(name, frozen_blocks=1).parameters()
    assert {each.requires_grad for each in partly} == {True, False}


@pytest.mark.laws(TEXT_TOWERS, ["python:towers:Words"])
@torch.no_grad()
def test_text_tokens_are_those_of_each_caption_and_loaders_pad_alike(name, tmp_path):
    if "siglip" in name:
        pytest.skip("its tokenizer is a start's")
    sizes = {} if name == "sentence" else {"layers": 1, "width": 16, "heads": 2}
    text = Text(name, save_bert(tmp_path), "random", max_length=16, **sizes)
    tower, again = build_text_tower(text).train(), build_text_tower(text)
    tokens, alone = tower(CAPTIONS), tower(CAPTIONS[:1])
    assert tokens.parts.shape == (*tokens.mask.shape, tower.width)
    count = int(alone.mask.sum())
    assert_close(alone.parts[0, :count], tokens.parts[0, :count])
    bare = pickle.loads(pickle.dumps(tower.without_weights()))
    assert not [*bare.parameters(), *bare.buffers()]
    assert bare.pad(CAPTIONS).ids.equal(tower.pad(CAPTIONS).ids)
    again.load_state_dict(tower.state_dict())
    assert again(CAPTIONS).parts.equal(tokens.parts)


class Dropping(Cnn):
    def forward(self, pixels):
        return functional.dropout(super().forward(pixels), 0.1, self.training)


class Narrow(Cnn):
    def forward(self, pixels):
        return super().forward(pixels)[:, :7]


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        (f"{HERE}Dropping", {}, "draws at random in training, .* set its dropout to 0, or freeze"),
        (f"{HERE}Narrow", {}, r"its tokens are pooled to \(2, 7\), expected \(2, 32\)"),
        (f"{HERE}image_tower", {}, "raised .*Error: "),
        (CNN, {"aggregation": "cls"}, "these tokens have no summary.* use max or avg"),
        (CNN, {"keep_tokens": 0.5}, r"image\.keep_tokens=0.5: .* no parameter keep"),
        (CNN, {"init": "dino"}, "has no origin, .* choose init=random"),
        (CNN, {"frozen_blocks": 4}, "has 2 blocks; choose 0 to 2"),
        (CNN, {"gradient_checkpointing": True}, r"image\.gradient_checkpointing: .* none"),
        (CNN, {"weights": "x"}, r"image\.init=random loads nothing"),
    ],
)
def test_an_image_tower_that_cannot_be_trained_is_refused(family, keys, message):
    with pytest.raises(ValueError, match=message):
        image_tower(family, **keys)


def test_what_is_not_read_is_not_trained_and_a_file_of_weights_is_loaded(tmp_path):
    tower, file = image_tower(DINO), str(tmp_path / "weights.pt")
    frozen = [name for name, each in tower.named_parameters() if not each.requires_grad]
    assert frozen == ["trunk.model.embeddings.mask_token"]
    torch.save(dict.fromkeys(tower.trunk.state_dict(), torch.zeros(())), file)
    with pytest.raises(ValueError, match="does not fit"):
        image_tower(DINO, init="mine", weights=file)
    torch.save({name: each + 1 for name, each in tower.trunk.state_dict().items()}, file)
    loaded = image_tower(DINO, init="mine", weights=file)
    assert loaded.trunk.model.layernorm.weight.eq(2).all()
    assert loaded.origin.init == "mine"


@torch.no_grad()
def test_pixels_are_normalised_with_the_mean_and_std_of_the_module():
    tower, images = image_tower(CNN), random_pixels(2, 3, 64, 64)
    expected = tower.trunk((images / 255 - 0.5) / 0.25).flatten(2).mT
    assert_close(tower(images).parts, expected)
