"""The configuration of a run is read as it was saved, wherever it has been moved."""

from dataclasses import replace

import pytest

from gestalt.config.loading import load
from gestalt.config.saved import load_saved
from gestalt.config.schema import config_hash, to_yaml
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.support.keys import flatten
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config


def saved(folder, config, *words):
    """The configuration, written to a run's folder and read again with overrides."""
    file = folder / "config.yaml"
    file.write_text(to_yaml(config))
    return load_saved(file, overrides=words)


@pytest.mark.parametrize("of_a_package", [{"terms": {"gone": 1.0}}, {"name": "gone"}])
def test_a_saved_config_is_read_without_the_package_of_its_loss_and_a_new_run_is_refused(
    tmp_path, of_a_package
):
    config = tiny_config()
    config = replace(config, loss=replace(config.loss, **of_a_package))
    assert saved(tmp_path, config) == config
    assert config_hash(config) != config_hash(tiny_config())
    (key, value), *_ = flatten({"loss": of_a_package}).items()
    with pytest.raises(ConfigError, match=r"^loss\.(terms\.)?"):
        tiny_config(f"{key}={value}")


def test_a_run_trained_with_a_caption_column_can_be_evaluated_on_a_source_without_one(tmp_path):
    from gestalt.config.check import check_training
    from gestalt.runs.evaluation import build_evaluation

    config = tiny_config("data.source=tars", "data.root=x", "data.caption=txt")
    again = saved(tmp_path, config, "data.source=scenes", "data.root=null")
    with pytest.raises(ConfigError, match=r"data\.caption=txt: source scenes does not take it"):
        check_training(again)
    data, _ = build_evaluation(again)
    data.setup("validate")
    assert next(iter(data.val_dataloader()))


def test_a_saved_run_is_read_though_it_could_not_start_any_more(tmp_path):
    config = load(
        "clippy_dino_max",
        scale="demo",
        overrides=["trainer.max_steps=20", f"benchmark_root={tmp_path}/moved"],
    )
    assert saved(tmp_path, config) == config
    config.evaluation.benchmarks = ["of_a_package"]
    assert saved(tmp_path, config) == config
    with pytest.raises(ConfigError, match="benchmarks=of_a_package: choose one of"):
        BENCHMARKS["of_a_package"]


def test_a_saved_run_keeps_the_limit_that_it_was_trained_with(tmp_path):
    words = ["data.source=flickr", "data.root=photos", "data.limit=14400"]
    config = load("clippy_dino_max", scale="demo", overrides=words)
    again = saved(tmp_path, config, "data.root=elsewhere/photos")
    assert again.data.limit == 14400
    assert config_hash(again) == config_hash(config)
