"""pretraining.dino.* and pretraining.supervised.*: keys for one init alone."""

import pytest
import yaml

from gestalt.config.identity import to_plain
from gestalt.config.keys_of_inits import resolve
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError

SCALE = {
    "image": {"init": "random"},
    "pretraining": {"steps": 500, "limit": 9, "dino": {"steps": 300, "summary": "max"}, "supervised": {"steps": 40}},
}


def steps(*layers):
    return [layer.get("pretraining", {}).get("steps") for _, layer in resolve([(str(index), layer) for index, layer in enumerate(layers)])]


@pytest.mark.parametrize(("init", "expected"), [("dino", 300), ("supervised", 40), ("random", 500)])
def test_the_init_of_the_last_layer_that_names_one_chooses_the_keys(init, expected):
    assert steps(SCALE, {"image": {"init": init}}, {"data": {"limit": 3}}) == [expected, None, None]


def test_without_an_init_the_schema_s_default_chooses():
    assert steps({"pretraining": {"steps": 1, "dino": {"steps": 2}}}) == [2]


@pytest.mark.parametrize("later", [{"steps": 7}, {"dino": {"steps": 7}}, {"steps": 5, "dino": {"steps": 7}}])
def test_a_later_layer_wins_whichever_way_it_sets_the_key(later):
    assert steps(SCALE, {"image": {"init": "dino"}}, {"pretraining": later})[-1] == 7


def test_resolving_keeps_other_keys_of_a_layer_and_removes_the_init_groups():
    ((_, layer), _) = resolve([("scale", SCALE), ("command line", {"image": {"init": "dino"}})])
    assert layer == {"image": {"init": "random"}, "pretraining": {"steps": 300, "limit": 9, "summary": "max"}}


def test_a_loaded_configuration_has_the_keys_of_the_chosen_init():
    config = load("clippy_dino_max", scale="tiny", overrides=["pretraining.dino.steps=5", "pretraining.supervised.steps=6"])
    assert config.pretraining.steps == 5
    assert "dino" not in to_plain(config)["pretraining"]


def test_another_data_source_lifts_the_limit_of_an_init_too(tmp_path):
    (tmp_path / "scales").mkdir()
    scale = {
        "data": {"source": "scenes", "limit": 5},
        "evaluation": {"benchmarks": ["scenes"]},
        "image": {"train_size": 64, "eval_size": 64},
        "pretraining": {"dino": {"limit": 4}},
    }
    (tmp_path / "scales" / "s.yaml").write_text(yaml.safe_dump(scale))
    (tmp_path / "e.yaml").write_text("image: {init: dino}")
    assert load("e", scale="s", folder=tmp_path).pretraining.limit == 4
    assert load("e", scale="s", folder=tmp_path, overrides=["data.source=flickr", "data.root=x"]).pretraining.limit is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pretraining.dino.stps=3", "has no key 'stps' .in command line.; did you mean 'steps'"),
        ("pretraining.supervised.stps=3", "has no key 'stps'"),
        ("pretraining.supervised.steps=many", "pretraining.steps=many: must be a whole number"),
        ("pretraining.dino=3", "pretraining.dino: 3 given for a group of keys .in command line.; choose one of its keys"),
        ("pretraining.dino=null", "pretraining.dino: None given for a group"),
        ("pretraining.mae.steps=3", "pretraining has no key 'mae'"),
    ],
)
def test_wrong_keys_and_values_are_refused_for_every_init(word, message):
    with pytest.raises(ConfigError, match=message):
        load("clippy_dino_max", scale="tiny", overrides=[word])
