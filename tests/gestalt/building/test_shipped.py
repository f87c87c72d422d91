"""Inits in the package: used for the very keys that they were made with, and for no others."""

import json
from dataclasses import replace

import pytest

from gestalt.building import source
from gestalt.building.model import build_model
from gestalt.building.source import SHIPPED, init_file_of, made_file_of
from gestalt.config.loading import load
from gestalt.encoders.backbones import build_trunk
from gestalt.pretraining.init_file import write_init_file
from gestalt.support.files import file_hash

FILES = sorted(SHIPPED.glob("*.safetensors"))
MOST_BYTES = 3_000_000


def configured(*words):
    return load("clippy_dino_max", scale="tiny", overrides=["image.inits.dino=made", *words])


def write(file, config):
    """Write fresh weights as a pretraining would."""
    from gestalt.building.pretraining import _tower

    untrimmed = build_trunk(config.image, size=config.pretraining.global_size)
    write_init_file(file, _tower(config), untrimmed=untrimmed, size=config.pretraining.global_size, record={})


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The file that a package would ship for the tiny scale, in a folder without runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "SHIPPED", tmp_path / "inits")
    monkeypatch.setattr("gestalt.building.model.SHIPPED", tmp_path / "inits")
    (tmp_path / "inits").mkdir()
    config = configured()
    path = tmp_path / "inits" / made_file_of(config).path.name
    write(replace(made_file_of(config), path=path), config)
    return path


def test_a_shipped_init_with_matching_keys_is_used_and_recorded_with_its_digest(shipped):
    assert init_file_of(configured()).path == shipped
    origin = build_model(configured()).image_tower.origin
    assert (origin.init, origin.source, origin.sha256) == ("dino", f"shipped, {shipped.name}", file_hash(shipped))


@pytest.mark.parametrize("word", ["image.width=64", "pretraining.seed=1", "data.recipe=scenes_v1"])
def test_a_shipped_init_is_not_used_for_another_architecture_recipe_or_data_set(shipped, word):
    file = init_file_of(configured(word))
    assert file.path.parent.name == "tiny"
    assert not file.exists()
    with pytest.raises(ValueError, match="not found; make it with `gestalt train`"):
        build_model(configured(word))


def test_a_local_init_takes_precedence_over_a_shipped_one(shipped):
    made = made_file_of(configured())
    assert not made.exists()
    made.path.parent.mkdir(parents=True)
    write(made, configured())
    assert init_file_of(configured()).path == made.path
    assert build_model(configured()).image_tower.origin.source == f"made here, {made.path}"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_shipped_init_is_small_has_provenance_and_matches_its_scale(path):
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert path.stat().st_size <= MOST_BYTES
    assert record["sha256"] == file_hash(path)
    assert {"commit", "packages"} <= record["provenance"].keys()
    config = load("clippy_dino_max", scale=record["config"]["scale"])
    assert init_file_of(config).path.name == path.name
    assert init_file_of(config).decides == record["decides"]
