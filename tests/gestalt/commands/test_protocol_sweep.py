"""One checkpoint under several protocols: each number equals that of a separate evaluation."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gestalt.__main__ import parse
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.models.opening import Target
from gestalt.results.compare import Column
from gestalt.results.intervals import Interval
from gestalt.results.scores import Score
from gestalt.runs.sweep import plot_protocols, sweep_protocols
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config


def asked(text):
    arguments = parse(["eval", "timm:vit_tiny_patch16_224", "--protocols", text])
    return arguments.module.check(arguments).swept


def test_all_means_each_protocol_once():
    names = asked("all")
    assert "sclip-336" not in names
    assert {"sclip-336/sclip", "clearclip-448/maskclip", "whole_square"} <= set(names)
    assert len({PRESETS[name].protocol.digest() for name in names}) == len(names)
    assert asked("tips-448, tips-448") == ["tips-448"]


def test_an_unknown_protocol_is_refused_by_its_nearest_name():
    with pytest.raises(ConfigError, match=r"'tips-484' is unknown; did you mean 'tips-448'"):
        asked("tips-484")


def test_a_setting_that_one_protocol_does_not_take_is_refused_before_any_is_scored(monkeypatch):
    config = tiny_config("evaluation.debias=largest")
    target = Target(
        config, SimpleNamespace(has_text=True), folder=Path(), identity={}, trained=None
    )
    monkeypatch.setattr(
        "gestalt.runs.sweep.score", lambda *_, **__: pytest.fail("a protocol was scored")
    )
    with pytest.raises(
        ConfigError, match="protocol mmseg-448/tcl: debias=largest does not go with scores=sigmoid"
    ):
        sweep_protocols(target, protocols=["whole_square", "mmseg-448/tcl"], overrides=[])


def test_the_plot_has_a_bar_a_protocol_of_each_benchmark():
    scores = {f"protocol={name}": Score({0: 0.1}) for name in ("whole_square", "tips-448")}
    axes = plot_protocols([Column("scenes/miou", "", "", "", scores, {})], title="a run").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "scenes, whole_square",
        "scenes, tips-448",
    ]
    assert axes.get_xlabel() == "mIoU"
    scores["protocol=tips-448"] = Score({0: 0.1}, Interval(0.05, 0.2))
    axes = plot_protocols([Column("scenes/miou", "", "", "", scores, {})], title="a run").axes[0]
    assert axes.get_xlabel() == "mIoU   (line: 95 % over images)"
