"""A survey scores each cell once, goes on after a failure, and compares what is finished."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from gestalt.ablation import jobs
from gestalt.ablation.launchers import LocalLauncher
from gestalt.ablation.survey import read_survey
from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load
from gestalt.measures.evaluation.published import published_of
from gestalt.results.intervals import Interval
from gestalt.results.result import read_result
from gestalt.results.scores import Score
from gestalt.results.survey import own_table
from gestalt.support.typed import read_keys
from tests.data_modules.fakes.masks import draw_voc
from tests.gestalt.ablation.fake_run import leave_arrays, record
from tests.gestalt.command import run_here

FILE = """
models:
  sclip: {evaluation.reading: sclip, evaluation.protocol: clearclip-448}
  mine: {model: "timm:weights"}
benchmarks: [pascal_voc, scenes]
protocols: [own, whole_square]
"""
CELLS = [
    f"{model}, {protocol}, {benchmark}"
    for model in ("sclip", "mine")
    for benchmark in ("pascal_voc", "scenes")
    for protocol in ("own", "whole_square")
]
FAILING = CELLS[-1]
FOLDER = Path("lightning_logs/surveys/mine")


class Here(LocalLauncher):
    """Leaves results files at once; the last cell fails when it is run first."""

    started: ClassVar[list] = []

    def start(self, job, state, slot):
        self.started.append(job.cell)
        if failed := self.started.count(FAILING) == 1 and job.cell == FAILING:
            return SimpleNamespace(log=None, poll=lambda: 1, output=lambda: "OSError: disk full")
        _, _, name = job.cell.split(", ")
        made, counts = record(load(None, scale="tiny"), 0.3 if "mine" in job.cell else 0.6)
        made = json.loads(json.dumps(made).replace('"scenes', f'"{name}'))
        made["benchmarks"][0]["protocol"]["digest"] = job.cell
        made |= {"seconds": 90.0, "memory_bytes": 5_000_000}
        folder = job.folder / "evaluations" / "0"
        folder.mkdir(parents=True)
        leave_arrays(folder, made, name, counts=counts)
        folder.with_suffix(".json").write_text(json.dumps(made))
        return SimpleNamespace(log=None, poll=lambda: int(failed), output=lambda: "")


@pytest.fixture
def survey(cwd, monkeypatch):
    """``mine.yaml``, and a model's file."""
    Path("weights").mkdir()
    Path("weights/model.bin").write_text("first")
    Path("mine.yaml").write_text(FILE)
    monkeypatch.setattr(Here, "started", [])
    monkeypatch.setattr("gestalt.ablation.launchers.LocalLauncher", Here)
    monkeypatch.setattr("gestalt.ablation.queue.TICK", 0)
    return "survey ./mine.yaml"


def test_a_survey_scores_each_cell_once_and_its_page_has_the_published_numbers(survey, capsys):
    run_here(survey, status=1)
    assert Here.started == CELLS
    shown = capsys.readouterr()
    failure = f"{FAILING}: failed: OSError: disk full"
    assert failure in shown.err.splitlines()[-1]
    text = (FOLDER / "table.md").read_text()
    assert failure in text
    assert text in shown.out
    assert "| model | pascal_voc/miou | difference to sclip | scenes/miou |" in text
    assert "| mine | 0.176 [0.167, 0.186] | -0.253 [-0.272, -0.235] | – |" in text
    own = "pascal_voc/miou | whole_square | 0.430 [0.402, 0.458] | 59.63 | -16.63 | wangf3014/SCLIP"
    assert f"| sclip | {own}" in text
    assert "| mine | scenes/miou | whole_square | 0.176 [0.167, 0.186] | – | – | – |" in text
    assert "| whole_square | 0.430 [0.402, 0.458] | +0.000 [+0.000, +0.000] (all equal) ~ |" in text
    assert "| sclip | 4 | 6 min 00 s | 5 MB |" in text
    assert "pascal voc mIoU, published" in (FOLDER / "table.tex").read_text()
    values = (FOLDER / "table.csv").read_text()
    assert re.search(
        r"^mine,.*/mine_own_scenes-\w+/evaluations/0.json,scenes/miou,own,", values, re.M
    )
    assert "sclip,,pascal_voc/miou,published,0.5963," in values
    assert "<h2>Protocol whole_square</h2>" in (FOLDER / "page.html").read_text()
    run_here(survey)
    assert Here.started == [*CELLS, FAILING]
    (path,) = FOLDER.glob("cells/sclip_own_pascal_voc-*/evaluations/0.json")
    part = read_result(path)
    part.record["benchmarks"][0]["images_official"] = 1449
    table = own_table([replace(part, label="sclip")])
    assert table.rows[0][1] == "pascal_voc/miou (30 of 1449 images)"
    assert table.rows[0][4:6] == ["59.63", "–"]


@pytest.mark.parametrize(
    ("difference", "interval", "unclear"),
    [
        (None, None, False),
        (0.1, None, True),
        (0.1, Interval(0.05, 0.2), False),
        (0.1, Interval(-0.05, 0.2), True),
        (0.1, Interval(0.2, 0.3), True),
    ],
)
def test_a_difference_is_clear_if_its_interval_contains_it_and_not_zero(
    difference, interval, unclear
):
    score = Score({0: 0.5}, difference=difference, difference_over_images=interval)
    assert score.unclear == unclear


def test_a_cell_is_scored_again_after_a_change_of_its_words_its_weights_or_its_images(survey):
    draw_voc(Path())
    words = ("benchmark_root=.", "benchmark_subset=true")

    def stems(*more):
        """The names of the cells' folders, by a process that has read no file before."""
        for read in (jobs.hash_of_model_file, jobs.digest_of_images):
            read.cache_clear()
        return [cell.stem for cell in read_survey("./mine.yaml", (*words, *more)).cells.values()]

    before = stems()
    assert stems() == stems("trainer.devices=2") == before
    assert not {*before} & {*stems("evaluation.limit=2")}
    Path("weights/model.bin").write_text("second")
    after = stems()
    assert [old == new for old, new in zip(before, after, strict=True)] == 4 * [True] + 4 * [False]
    photograph = next(Path("VOCdevkit/VOC2012/JPEGImages").iterdir())
    photograph.write_bytes(photograph.read_bytes() + b" ")
    changed = [old != new for old, new in zip(after, stems(), strict=True)]
    assert changed == 2 * [True, True, False, False]


def test_a_cell_is_scored_again_after_a_change_of_the_code_that_it_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    code = tmp_path / "code_of_a_survey.py"
    for model, words in (
        ("python:code_of_a_survey:Radio", ()),
        ("hf:a", ("evaluation.reading=python:code_of_a_survey:read",)),
    ):
        stems = set()
        for text in ("first", "second"):
            code.write_text(text)
            jobs.hash_of_model_file.cache_clear()
            stems.add(jobs.Scoring("a", model, words, tmp_path).stem)
        assert len(stems) == 2


def test_cells_have_the_words_of_their_protocols_and_the_survey_keeps_them(survey, capsys):
    cells = read_survey("./mine.yaml", ("evaluation.limit=2",)).cells
    quiet, limit = "trainer.enable_progress_bar=false", "evaluation.limit=2"
    assert cells["sclip", "own", "pascal_voc"].words == (
        quiet,
        "evaluation.benchmarks=[pascal_voc]",
        "evaluation.protocol=sclip-336/sclip",
        "benchmark_root=data",
        limit,
    )
    for protocol, named in (("own", "clearclip-448"), ("whole_square", "whole_square")):
        assert cells["sclip", protocol, "scenes"].words == (
            quiet,
            'evaluation.benchmarks=["scenes"]',
            "evaluation.reading=sclip",
            f"evaluation.protocol={named}",
            limit,
        )
    words = "evaluation.protocol=tips-448"
    run_here(f"{survey} --plan {words}", status=2)
    assert f"survey mine: {words}: the survey sets evaluation.protocol" in capsys.readouterr().err


def test_the_plan_names_what_has_to_be_downloaded_and_the_time_once_it_is_measured(survey, capsys):
    run_here(f"{survey} --plan")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "new       sclip, own, pascal_voc"
    assert "data pascal_voc: gestalt data get pascal_voc: https://" in lines[8]
    assert lines[8].endswith("terms of use: Flickr's, for research")
    assert lines[9].startswith("model open_clip:ViT-B-16-quickgelu:openai: its bytes and licence")
    assert lines[10] == "model timm:weights: 5 B on this disk"
    assert lines[11].startswith("disk: the data need at least 3.999 GB")
    assert lines[12] == "8 of 8 evaluations to come; the time is not known before one is finished"
    run_here(survey, status=1)
    capsys.readouterr()
    run_here(f"{survey} --plan --jobs 2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[6] == "finished  mine, own, scenes"
    assert lines[-1].startswith("1 of 8 evaluations to come; about 1 min 30 s")


def test_the_survey_that_is_included_has_the_published_numbers_of_eight_sets():
    keys = read_keys(EXPERIMENTS / "surveys" / "training_free.yaml")
    assert len(keys["benchmarks"]) == 8
    for method in keys["models"]:
        assert {*keys["benchmarks"]} <= published_of(method).keys()
