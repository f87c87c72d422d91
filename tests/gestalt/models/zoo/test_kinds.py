"""Names of external models, checked before their library is imported."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import open_clip
import pytest
import timm

from gestalt.encoders.inits import is_listed, timm_models
from gestalt.models.names import external_name
from gestalt.models.opening import open_target
from gestalt.models.zoo.kinds import DEFAULTS, EXTERNAL, Opened, check_name, library_of
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_model import tiny

REFUSED = {
    "classifier": ("resnett", "timm has no such model"),
    "clippy": ("none.pt", "file not found; the checkpoint is"),
    "hf": ("{folder}", "no config.json in the folder"),
    "open_clip": ("{folder}", "the folder has no open_clip_config.json"),
    "python": ("no_such_package:make", "no module no_such_package is installed"),
    "timm": (
        "vit_tinny_patch16_224",
        "timm has no such model; did you mean 'vit_tiny_patch16_224'",
    ),
}


@pytest.mark.parametrize("kind", EXTERNAL)
def test_a_wrong_name_is_refused_with_one_message_before_the_library_is_imported(kind, tmp_path):
    name, words = REFUSED[kind]
    name = name.format(folder=tmp_path)
    with pytest.raises(ValueError, match=words) as early:
        check_name(kind, name)
    with pytest.raises(ValueError, match=words) as late:
        open_target(
            f"{kind}:{name}", overrides=["text.model=/no/model"] if kind == "clippy" else []
        )
    assert str(early.value) == str(late.value)


def test_a_folder_that_is_not_there_is_named_and_a_name_of_the_hub_is_left_to_the_library():
    for name in ("hf:no/such/folder", "hf:./none", "open_clip:no_folder", "open_clip:/no/where"):
        with pytest.raises(ValueError, match=rf"^{name}: .*no such folder"):
            check_name(*name.split(":", 1))
    for name in (
        "hf:openai/clip-vit-base-patch32",
        "hf:gpt2",
        "open_clip:hf-hub:a/b",
        "timm:hf-hub:a/b",
    ):
        check_name(*name.split(":", 1))


def test_the_files_of_the_libraries_name_the_models_that_they_list():
    assert set(timm_models()) == set(timm.list_models())
    assert is_listed("vit_base_patch16_224_dino")  # renamed
    assert not is_listed("vit_tinny")
    for name in open_clip.list_models():
        check_name("open_clip", f"{name}:tag")


def test_a_kind_and_a_name_make_an_external_model():
    assert (
        external_name("zoo:open_clip:a:b") == external_name("open_clip:a:b") == ("open_clip", "a:b")
    )
    assert external_name("lightning_logs/a/b") is None
    assert external_name("C:file") is None
    with pytest.raises(
        ConfigError, match=r"zoo:open_clap:x: other models are .*did you mean 'open_clip'"
    ):
        external_name("zoo:open_clap:x")
    for kind, name in {
        "hf": "gpt2",
        "open_clip": "RN50:openai",
        "python": "json:loads",
        "timm": "resnet18",
    }.items():
        assert callable(library_of(kind, name).open_model)


@pytest.mark.parametrize("word", ["image.backbone=vit_small_patch16_224", "seed=3"])
def test_a_key_that_is_not_read_is_refused_before_the_model_is_opened(word):
    with pytest.raises(
        ConfigError, match=f"{word}: scoring open_clip:RN50:openai does not read it; leave it out"
    ):
        open_target("open_clip:RN50:openai", overrides=[word])


def test_unlabelled_images_are_needed_before_the_model_is_opened():
    with pytest.raises(ConfigError, match=r"evaluation\.unlabelled=DIR"):
        open_target("open_clip:RN50:openai", overrides=["evaluation.debias=largest"])


def test_unlabelled_images_may_be_training_data_that_are_named():
    def stop(config, has_text, places):
        raise RuntimeError(config.data.source)

    words = ["evaluation.debias=largest", "data.source=flickr", "data.root=x"]
    with pytest.raises(RuntimeError, match="flickr"):
        open_target("open_clip:RN50:openai", overrides=words, check=stop)


def test_a_kind_of_our_own_towers_is_a_row_and_a_file(monkeypatch):
    def build(name, config):
        assert (name, config.data.recipe) == ("scenes_v1", "scenes_v1_spurious")
        return Opened(tiny()[0], {"library": "mine"}, sha256="00")

    row = replace(EXTERNAL["hf"], defaults=(*DEFAULTS, "data.recipe={name}_spurious"))
    monkeypatch.setitem(EXTERNAL, "mine", row)
    monkeypatch.setitem(sys.modules, "gestalt.models.zoo.mine", SimpleNamespace(build=build))
    identity = open_target("mine:scenes_v1").identity
    assert identity["model"] == {"library": "mine"}
    assert identity["checkpoint_sha256"] == identity["image_init"]["sha256"] == "00"
