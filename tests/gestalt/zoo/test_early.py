"""Names of other people's models, checked before their library is imported, with the same messages as when they are opened."""

from pathlib import Path

import open_clip
import pytest
import timm

from gestalt.building.guest import open_guest
from gestalt.encoders.backbones import check_backbone
from gestalt.encoders.timm_names import check_backbone_name, is_listed, timm_models
from gestalt.runs.names import GUEST_KINDS
from gestalt.zoo.early import CHECKS, check_guest

REFUSED = {
    "clippy": ("none.pt", "file not found"),
    "hf": ("{folder}", "no config.json in the folder"),
    "open_clip": ("{folder}", "the folder has no open_clip_config.json"),
    "python": ("no_such_package:make", "no module no_such_package is installed"),
    "timm": ("vit_tinny_patch16_224", "timm has no such model; did you mean 'vit_tiny_patch16_224'"),
}


@pytest.mark.parametrize("kind", GUEST_KINDS)
def test_the_early_check_of_a_guest_raises_the_same_message_as_opening_it(kind: str, tmp_path: Path) -> None:
    name, words = REFUSED[kind]
    name = name.format(folder=tmp_path)
    with pytest.raises(ValueError, match=words) as early:
        check_guest(kind, name)
    with pytest.raises(ValueError, match=words) as late:
        open_guest(f"{kind}:{name}", overrides=[])
    assert str(early.value) == str(late.value)


def test_every_kind_has_a_check() -> None:
    assert set(CHECKS) == set(GUEST_KINDS)


@pytest.mark.parametrize("name", ["hf:no/such/folder", "hf:./none", "open_clip:no_folder", "open_clip:/no/where"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*no such folder"):
        check_guest(*name.split(":", 1))


@pytest.mark.parametrize("name", ["hf:openai/clip-vit-base-patch32", "hf:gpt2", "open_clip:hf-hub:a/b", "timm:hf-hub:a/b"])
def test_a_name_of_the_hub_is_left_to_the_library(name: str) -> None:
    check_guest(*name.split(":", 1))


def test_weights_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read as a state dict: damaged, truncated"):
        check_guest("hf", str(tmp_path))


def test_timm_s_files_name_the_models_that_it_lists() -> None:
    assert set(timm_models()) == set(timm.list_models())
    assert is_listed("vit_base_patch16_224")
    assert timm.is_model("vit_base_patch16_224_dino")  # renamed
    assert is_listed("vit_base_patch16_224_dino")
    assert not is_listed("vit_tinny")


@pytest.mark.parametrize(("name", "words"), [("vit_tinny", "is not a timm model; did you mean"), ("resnet50.a1_in1k", "names weights")])
def test_the_early_check_of_a_backbone_raises_the_same_message_as_the_late_one(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as early:
        check_backbone_name(name)
    with pytest.raises(ValueError, match=words) as late:
        check_backbone(name, family="vit")
    assert str(early.value) == str(late.value)


def test_open_clip_s_architectures_pass() -> None:
    for name in open_clip.list_models():
        check_guest("open_clip", f"{name}:tag")
