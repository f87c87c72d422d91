"""A model without text is scored only by measures that need no text."""

import pytest

from gestalt.measures.callback import RecordedCallback, SkippedMeasure
from gestalt.measures.grouping.callback import Grouping
from gestalt.runs.evaluation import NO_TEXT, build_evaluation
from gestalt.runs.score import writing_maps
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config


def test_measures_that_need_text_are_replaced_by_left_out_entries():
    config = tiny_config()
    measured = [
        row
        for row in build_evaluation(config, has_text=False)[1]
        if isinstance(row, RecordedCallback)
    ]
    assert [type(row) for row in measured] == [
        SkippedMeasure,
        Grouping,
        SkippedMeasure,
    ]  # and no other scorer
    entries = [row.result() for row in measured[::2]]
    assert {entry["left_out"] for entry in entries} == {"segmentation", "retrieval"}
    assert {entry["why"] for entry in entries} == {NO_TEXT}
    assert not [row for row in build_evaluation(config)[1] if isinstance(row, SkippedMeasure)]


def test_a_benchmark_with_nothing_to_score_is_refused():
    config = tiny_config("evaluation.benchmarks=[scenes_classification]")
    with pytest.raises(
        ConfigError,
        match=(
            r"nothing to score .scenes_classification: no classification, the model is vision-only"
        ),
    ):
        build_evaluation(config, has_text=False)
    config.evaluation.benchmarks.append("scenes_matching")  # which needs no text
    build_evaluation(config, has_text=False)


def test_an_evaluation_that_was_stopped_can_write_its_maps_the_second_time(tmp_path):
    _, callbacks = build_evaluation(tiny_config("evaluation.benchmarks=[scenes]"))
    maps = tmp_path / "maps"

    def write(divisor):
        with writing_maps(callbacks, str(maps)) as (scorer,):
            scorer.folder.mkdir(parents=True)
            (scorer.folder / "0.png").touch()
            assert not list(maps.glob("scenes/*"))
            return 1 / divisor

    with pytest.raises(ZeroDivisionError):
        write(0)
    write(1)
    assert [path for path in maps.rglob("*") if path.is_file()] == [maps / "scenes/0.png"]
    with pytest.raises(ValueError, match="maps/scenes exists and is not an empty folder"):
        write(1)
