"""A model without text is scored only by measures that need no text."""

import pytest

from gestalt.building.evaluation import build_evaluation
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from gestalt.measures.grouping.callback import Grouping
from gestalt.measures.measured import LeftOut


def test_measures_that_need_text_are_replaced_by_left_out_entries():
    config = load("clippy_dino_max", scale="tiny")
    callbacks = build_evaluation(config, has_text=False)[1]
    left_out = {row.measure for row in callbacks if isinstance(row, LeftOut)}
    assert left_out == {"segmentation", "retrieval"}
    assert any(isinstance(row, Grouping) for row in callbacks)


def test_a_benchmark_with_nothing_to_score_is_refused():
    config = load("clippy_dino_max", scale="tiny", overrides=["evaluation.benchmarks=[scenes_classification]"])
    with pytest.raises(ConfigError, match=r"nothing to score .scenes_classification: no classification, the model is vision-only"):
        build_evaluation(config, has_text=False)
