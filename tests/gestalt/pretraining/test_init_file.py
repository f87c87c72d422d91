"""The file of pretraining loads strictly, gives the same tokens, and is named by all that decides it."""

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gestalt.config.identity import made_keys
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError, Image
from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.image import build_image_tower
from gestalt.pretraining.init_file import InitFile, name_init_file, write_init_file
from gestalt.runs.locks import hold
from gestalt.support.files import file_hash

SMALL = {"width": 32, "depth": 2, "heads": 2}
KINDS = {  # plain, with convolutions, distilled, no class token and pooled by attention, registers, averaged first, rotary embeddings
    "plain": (Image("vit_tiny_patch16_224", init="random", patch_size=8, **SMALL), 32),
    "conv_stem": (Image("vit_tiny_patch16_224", init="random", patch_size=8, stem="conv", **SMALL), 32),
    "distilled": (Image("deit_tiny_distilled_patch16_224", init="random", patch_size=8, **SMALL), 32),
    "siglip": (Image("vit_base_patch16_siglip_224", init="random", **SMALL), 32),
    "registers": (Image("vit_small_patch14_reg4_dinov2", init="random", **SMALL), 56),
    "averaged": (Image("vit_wee_patch16_reg1_gap_256", init="random", **SMALL), 32),
    "eva": (Image("eva02_tiny_patch14_224", init="random", width=48, depth=2, heads=3), 56),
}


def trained(image, size):
    torch.manual_seed(0)
    tower = build_image_tower(image, size=size)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return tower.eval()


def written(folder, image, size) -> InitFile:
    init_file = name_init_file(folder, decides={"init": "dino"})
    record = {"init": "dino", "steps": 3}
    tower, untrimmed = trained(image, size), build_trunk(image, size=size)
    write_init_file(init_file, tower, untrimmed=untrimmed, size=size, record=record)
    return init_file


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_loads_strictly_and_gives_equal_tokens(tmp_path, kind):
    image, size = KINDS[kind]
    init_file = written(tmp_path, image, size)
    torch.manual_seed(1)
    loaded = build_image_tower(replace(image, init="dino", weights=str(init_file.path)), size=size).eval()
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    expected, found = trained(image, size)(images), loaded(images)
    assert torch.equal(expected.parts, found.parts)
    assert (expected.summary is None) == (found.summary is None)
    assert found.summary is None or torch.equal(expected.summary, found.summary)
    assert loaded.origin.sha256 == file_hash(init_file.path)


def test_the_file_loads_for_another_image_size(tmp_path):
    image, size = KINDS["plain"]
    init_file = written(tmp_path, image, size)
    tower = build_image_tower(replace(image, init="dino", weights=str(init_file.path)), size=48)
    assert tower(torch.zeros(1, 3, 48, 48, dtype=torch.uint8)).grid == (6, 6)


def test_weights_other_than_those_that_the_sidecar_describes_are_refused(tmp_path):
    image, size = KINDS["plain"]
    init_file = written(tmp_path, image, size)
    content = bytearray(init_file.path.read_bytes())
    content[-64:] = bytes(64)
    init_file.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or replaced: its SHA-256 is not the one in .*\.json; copy both again"):
        build_image_tower(replace(image, init="dino", weights=str(init_file.path)), size=size)


def test_another_architecture_is_refused(tmp_path):
    image, size = KINDS["plain"]
    init_file = written(tmp_path, image, size)
    deeper = replace(image, depth=3, init="dino", weights=str(init_file.path))
    with pytest.raises(ValueError, match="does not fit the backbone"):
        build_image_tower(deeper, size=size)


def test_the_sidecar_describes_the_weights(tmp_path):
    init_file = written(tmp_path, *KINDS["plain"])
    record = json.loads(init_file.sidecar.read_text())
    assert record["mean"] == record["std"] == [0.5, 0.5, 0.5]
    assert (record["size"], record["steps"], record["sha256"]) == (32, 3, file_hash(init_file.path))
    assert {path.name for path in tmp_path.iterdir()} == {init_file.path.name, init_file.sidecar.name}


def test_the_weights_are_written_last(tmp_path, monkeypatch):
    from gestalt.pretraining import init_file as room

    monkeypatch.setattr(room, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, *KINDS["plain"])
    assert not name_init_file(tmp_path, decides={"init": "dino"}).exists()
    assert list(tmp_path.iterdir()) == []


def keys(init="dino", scale="tiny", **overrides):
    words = [f"image.init={init}", f"image.inits.{init}=made", *(f"{key}={value}" for key, value in overrides.items())]
    return made_keys(load("clippy_dino_max", scale=scale, overrides=words))


DECIDES = {
    **{"image.patch_size": 4, "image.width": 16, "image.depth": 1, "image.heads": 1, "image.stem": "conv"},
    **{"image.backbone": "deit_tiny_patch16_224", "data.recipe": "scenes_v1", "trainer.precision": "bf16-mixed"},
    **{"pretraining.steps": 9, "pretraining.batch_size": 4, "pretraining.learning_rate": 2e-3, "pretraining.seed": 1},
    **{"pretraining.object_centred": "false", "pretraining.local_crops": 1, "pretraining.global_area": "[0.3,1.0]"},
    **{"pretraining.teacher_temperature": 0.06, "pretraining.momentum": 0.8},
    **{"pretraining.summary": "max", "pretraining.patch_weight": 1.0, "pretraining.mask_share": 0.5, "pretraining.across_weight": 1.0},
    **{"pretraining.image_weight": 0.5, "pretraining.patch_prototypes": 64, "pretraining.patch_centring": "sinkhorn"},
}
DECIDES_NOT = {
    **{"seed": 1, "image.aggregation": "avg", "image.subsampling": "false", "image.eval_size": 64, "image.frozen": "true"},
    **{"optimizer.learning_rate": 1, "text.init": "random", "data.limit": 32, "data.workers": 1, "evaluation.pictures": 1},
    **{"trainer.max_epochs": 1, "trainer.devices": 2, "pretraining.score_every_steps": 2, "pretraining.knn_bank": 8},
}


@pytest.mark.parametrize("key", DECIDES)
def test_keys_that_decide_the_weights_change_the_file_name(key):
    with_patches = {"pretraining.patch_weight": 2.0} if key in ("pretraining.patch_prototypes", "pretraining.patch_centring") else {}
    parent, plain, other = Path("made"), keys(**with_patches), keys(**{key: DECIDES[key]}, **with_patches)
    assert name_init_file(parent, decides=plain) != name_init_file(parent, decides=other)
    assert name_init_file(parent, decides=plain).path != name_init_file(parent, decides=other).path


@pytest.mark.parametrize("key", DECIDES_NOT)
def test_keys_that_do_not_decide_the_weights_leave_the_file_name(key):
    assert name_init_file(Path("made"), decides=keys()) == name_init_file(Path("made"), decides=keys(**{key: DECIDES_NOT[key]}))


def test_keys_added_later_do_not_rename_earlier_files():
    """The name is that of the demo's file since before the keys of patches."""
    assert not [key for key in keys() if key.endswith(("summary", "patch_weight", "mask_share", "patch_centring"))]
    content = {"data.digest": "d", "data.images": 3}
    assert name_init_file(Path("made"), decides={**keys(), **content}).path.name == "dino_7c5c3d4d76c3.safetensors"


def test_dino_keys_do_not_change_the_name_of_supervised_weights():
    assert keys("supervised") == keys("supervised", **{"pretraining.momentum": 0.8, "pretraining.prototypes": 7})
    assert keys("supervised") != keys("supervised", **{"pretraining.steps": 9})
    assert keys("supervised") != keys("dino")


def _hold(file, taken, seconds):
    with hold(Path(file), busy="waiting", wait=True):
        taken.set()
        time.sleep(seconds)


def test_a_lock_waits_for_its_holder_or_is_refused(tmp_path, capfd):
    context = multiprocessing.get_context("fork")
    taken = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / ".lock"), taken, 1.0))
    holder.start()
    assert taken.wait(20)
    with pytest.raises(ConfigError, match="another has it: try again"), hold(tmp_path / ".lock", busy="another has it: try again"):
        pass
    with hold(tmp_path / ".lock", busy="waiting for another", wait=True):
        assert not holder.is_alive() or holder.join(5) is None
    assert "waiting for another" in capfd.readouterr().err
    holder.join()


def test_a_lock_is_released_when_its_process_dies(tmp_path):
    context = multiprocessing.get_context("fork")
    taken = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / ".lock"), taken, 60.0))
    holder.start()
    assert taken.wait(20)
    holder.kill()
    holder.join()
    with hold(tmp_path / ".lock", busy="never"):
        pass
