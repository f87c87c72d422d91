"""The file that pretraining writes loads strictly and gives the same tokens."""

import json
from dataclasses import replace

import pytest
import torch

from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.runs import pretraining as make
from gestalt.runs.pretraining import write_init
from gestalt.support.files import file_hash

SMALL = {"width": 32, "depth": 2, "heads": 2}
# plain, with convolutions, distilled, no class token and pooled by attention, registers, averaged
# first, rotary embeddings
KINDS = {
    "plain": (Image("vit_tiny_patch16_224", init="random", patch_size=8, **SMALL), 32),
    "conv_stem": (
        Image("vit_tiny_patch16_224", init="random", patch_size=8, stem="conv", **SMALL),
        32,
    ),
    "distilled": (
        Image("deit_tiny_distilled_patch16_224", init="random", patch_size=8, **SMALL),
        32,
    ),
    "siglip": (Image("vit_base_patch16_siglip_224", init="random", **SMALL), 32),
    "registers": (Image("vit_small_patch14_reg4_dinov2", init="random", **SMALL), 56),
    "averaged": (Image("vit_wee_patch16_reg1_gap_256", init="random", **SMALL), 32),
    "eva": (Image("eva02_tiny_patch14_224", init="random", width=48, depth=2, heads=3), 56),
}


def built(kind, *, weights=None, size=None, **changes):
    image, side = KINDS[kind]
    if weights is not None:
        changes |= {"init": "dino", "weights": str(weights)}
    return build_image_tower(replace(image, eval_size=size or side, **changes)).eval()


def trained(kind):
    torch.manual_seed(0)
    tower = built(kind)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return tower


def written(folder, kind="plain"):
    image, size = KINDS[kind]
    file, untrimmed = folder / "dino.safetensors", build_trunk(replace(image, eval_size=size))
    write_init(
        file, trained(kind), untrimmed=untrimmed, size=size, record={"init": "dino", "steps": 3}
    )
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_loads_strictly_and_gives_equal_tokens(tmp_path, kind):
    file, size = written(tmp_path, kind), KINDS[kind][1]
    torch.manual_seed(1)
    loaded = built(kind, weights=file)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    expected, found = trained(kind)(images), loaded(images)
    assert torch.equal(expected.parts, found.parts)
    assert (expected.summary is None) == (found.summary is None)
    assert found.summary is None or torch.equal(expected.summary, found.summary)
    assert loaded.origin.sha256 == file_hash(file)


def test_the_file_loads_for_another_image_size_and_for_no_other_architecture(tmp_path):
    file = written(tmp_path)
    assert built("plain", weights=file, size=48)(
        torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    ).grid == (6, 6)
    with pytest.raises(ValueError, match="does not fit the backbone"):
        built("plain", weights=file, depth=3)


def test_the_json_describes_the_weights_and_other_weights_are_refused(tmp_path):
    file = written(tmp_path)
    record = json.loads((tmp_path / "dino.safetensors.json").read_text())
    assert record["mean"] == record["std"] == [0.5, 0.5, 0.5]
    assert (record["size"], record["steps"], record["sha256"]) == (32, 3, file_hash(file))
    assert len(list(tmp_path.iterdir())) == 2
    content = bytearray(file.read_bytes())
    content[-64:] = bytes(64)
    file.write_bytes(content)
    with pytest.raises(
        ValueError,
        match=r"damaged or replaced: its SHA-256 is not the one in .*\.json; copy both again",
    ):
        built("plain", weights=file)


def test_the_weights_are_written_last(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []
