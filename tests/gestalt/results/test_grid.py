"""Only results with the same settings share a column; a table has the same numbers in Markdown, CSV
and LaTeX, with the paper's and ours in separate columns.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gestalt.ablation.grid import read_grid
from gestalt.results.comparability import setup_differences, split_by_measurement, starting_weights
from gestalt.results.compare import compare
from gestalt.results.grid import METHOD, Design, GridTable, Paper, build_table
from gestalt.results.intervals import Contribution, Interval, pseudo_values, t_interval
from gestalt.results.result import Result
from gestalt.results.scores import Score, finding
from gestalt.results.text import csv_text, latex
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import leave, leave_arrays, record
from tests.gestalt.tiny_config import tiny_config

SCORES = {"max": (0.6, 0.62, 0.65), "avg": (0.4, 0.45, 0.43), "cls": (0.2, 0.2, 0.2)}
GRID = read_grid("aggregation", scale="tiny").design()


@pytest.fixture
def view(tmp_path):
    """Three cells with three seeds each; a function that makes the view with changes to single
    runs.
    """

    def make(changes=None, **keywords):
        made = {}
        for cell, scores in SCORES.items():
            for seed, score in enumerate(scores):
                words = [
                    f"image.aggregation={cell}",
                    f"seed={seed}",
                    *keywords.get("overrides", {}).get((cell, seed), []),
                ]
                config = tiny_config(*words)
                saved, array = record(config, score, **(changes or {}).get((cell, seed), {}))
                folder = tmp_path / f"{cell}_{seed}"
                leave(folder, config, saved, array)
                made[cell, seed] = Result(f"{cell} seed {seed}", folder / "result.json", saved)
        return made

    return make


def table_of(view, metric="scenes/miou", *, allow_mixed=False):
    """Return the table of the grid's results."""
    return build_table(GRID, view, metric=metric, allow_mixed=allow_mixed)


def differences(view):
    """Return the differences that make results incomparable."""
    results = list(view.values())
    return [
        *split_by_measurement(results, "scenes/miou").differences(),
        *setup_differences(results),
    ]


CHANGES = {
    "commit": (
        {("avg", 1): {"commit": "facade"}},
        {},
        "max seed 0 and 7 more vs avg seed 1: commit is c0ffee vs facade",
    ),
    "limit": (
        {},
        {("avg", 1): ["evaluation.limit=5"]},
        "max seed 0 and 7 more vs avg seed 1: evaluation.limit is 7 vs 5",
    ),
    "init": (
        {("avg", 1): {"resolved": "random", "sha256": "abcdef0123456789"}},
        {},
        "max seed 0 and 7 more vs avg seed 1: weights used for image.init=dino is dino vs random "
        "abcdef01",
    ),
}


@pytest.mark.parametrize(("changes", "overrides", "sentence"), CHANGES.values(), ids=CHANGES)
def test_runs_that_differ_are_refused_by_name_unless_mixing_is_allowed(
    view, changes, overrides, sentence
):
    made = view(changes, overrides=overrides)
    with pytest.raises(ConfigError) as refusal:
        table_of(made)
    assert sentence in str(refusal.value)
    assert "--allow-mixed" in str(refusal.value)
    table = table_of(made, allow_mixed=True)
    assert sentence in table.notes[0]


def test_a_text_tower_that_is_taken_alone_is_among_the_starting_weights():
    init = {"requested": "a", "resolved": "b"}
    record = {
        "config": {"start": "text:a"},
        "image_init": init,
        "text_init": init | {"sha256": "c"},
    }
    assert [*starting_weights(SimpleNamespace(record=record)).values()] == ["b", "b c"]


def test_other_images_with_the_same_sums_are_refused_or_lose_their_intervals(view):
    made = view()
    result = made["avg", 0]
    leave_arrays(
        result.run / "per_image",
        result.record,
        "scenes",
        counts=result.arrays("scenes")["counts"][::-1],
    )
    with pytest.raises(
        ConfigError, match="scenes/miou: the images of avg seed 0 are not those of max seed 0"
    ):
        table_of(made)
    scores = table_of(made, allow_mixed=True).scores
    assert scores["max"].over_images is not None
    assert scores["avg"].over_images is None  # of seeds that saw different images
    assert scores["avg"].difference_over_images is None
    assert scores["avg"].difference_over_seeds is not None
    # of single results
    result.record["weights_sha256"] = made["max", 0].record["weights_sha256"]
    compared = compare([made["max", 0], result])
    first, second = compared.columns[0].scores.values()
    assert second.over_images == pytest.approx(first.over_images, abs=0.2)
    assert second.difference_over_images is None
    assert "avg seed 0: no interval of its difference" in "".join(compared.notes)


def test_an_interval_of_a_difference_may_be_negative_and_that_of_a_mean_may_not(view, monkeypatch):
    spread = np.linspace(-3, 3, 40)

    def contribution(result, metric):
        samples = spread * (2 if "avg" in result.label else 1)
        return Contribution(np.ones((40, 3)), 0.0, samples, jackknife=True)

    monkeypatch.setattr(Result, "contribution", contribution)
    score = table_of(view()).scores["avg"]
    assert score.over_images == (0, 1)
    assert score.difference_over_images == pytest.approx(t_interval(spread.tolist()))


def test_a_score_has_the_trivial_baselines_and_the_part_of_its_results(view):
    made = view()
    for key, value in (("constant_background", 0.3), ("patch_oracle", 0.9)):
        made["avg", 0].record["metrics"][f"scenes/miou_{key}"] = value
    made["avg", 2].record["benchmarks"][0]["images_official"] = 50
    scores = table_of(made, allow_mixed=True).scores
    assert scores["avg"].baselines == pytest.approx({"constant_background": 0.32 / 3})
    assert [scores[cell].part for cell in ("max", "avg")] == ["", "30 of 50 images"]


def test_data_may_differ_only_if_the_configuration_distinguishes_them(view):
    for words, sentences in (
        (["data.root=there/other"], []),
        (["data.limit=32"], []),
        ([], ["max seed 0 and 5 more vs avg seed 0 and 2 more: data.digest is a vs b"]),
    ):
        made = view(overrides={("avg", seed): words for seed in range(3)})
        for key, result in made.items():
            result.record["data"] = {"digest": "b" if key[0] == "avg" else "a"}
        assert differences(made) == sentences


def test_inits_may_differ_if_the_configuration_distinguishes_them(view):
    changes = {("avg", seed): {"resolved": "dino", "sha256": "ab"} for seed in range(3)}
    made = view(
        changes, overrides={("avg", seed): ["image.weights=file.safetensors"] for seed in range(3)}
    )
    assert differences(made) == []


def test_a_difference_is_paired_over_seeds_and_over_images(view):
    made = view()
    table = table_of(made)
    base, row = table.scores["max"], table.scores["avg"]
    assert table.design.against == "max"
    assert base.difference is None
    each = [row.values[seed] - base.values[seed] for seed in range(3)]
    assert row.difference == pytest.approx(sum(each) / 3)
    assert row.difference_over_seeds == t_interval(each)
    arrays = {key: one.arrays("scenes")["counts"] for key, one in made.items()}
    slow = np.mean(
        [
            pseudo_values(arrays["avg", seed]) - pseudo_values(arrays["max", seed])
            for seed in range(3)
        ],
        axis=0,
    )
    assert row.difference_over_images == pytest.approx(t_interval(slow))


def test_a_seed_present_in_only_one_cell_is_not_paired(view):
    made = view()
    del made["max", 2]  # the row that others are compared with
    row = table_of(made).scores["avg"]
    assert len(row.values) == 3
    assert row.difference_over_images is not None
    assert row.difference == pytest.approx(
        np.mean(
            [
                row.values[seed] - made["max", seed].record["metrics"]["scenes/miou"]
                for seed in (0, 1)
            ]
        )
    )


def test_the_papers_numbers_stand_beside_the_same_metric_only(view):
    table = table_of(view(), metric="scenes/recall_at_10")
    assert table.scores["avg"].difference_over_images is None
    assert table.paper == ""
    assert "paper" not in " ".join(table.table().heads)
    table = table_of(view())
    assert table.papers == {"max": 50.8, "avg": 11.6, "cls": 4.0}
    assert table.paper.startswith(
        "the paper's Pascal VOC mIoU, % (arXiv:2210.09996, table 9; CC-12M"
    )


def test_a_cell_with_a_substituted_init_is_noted_and_shows_no_paper_number(view):
    made = view({("avg", seed): {"resolved": "random"} for seed in range(3)})
    table = table_of(made, allow_mixed=True)
    assert table.papers == {"max": 50.8, "cls": 4.0}
    assert (
        "avg: image.init requested dino, resolved to random, so the paper's number is left out."
        in table.notes
    )


def test_a_part_of_a_set_a_shortened_run_and_uncommitted_code_are_noted(view):
    made = view(
        {(cell, seed): {"commit": "c0ffee+changes"} for cell in SCORES for seed in range(3)}
    )
    made["cls", 1].record["steps"] = 5
    for one in made.values():
        one.record["benchmarks"][0]["images_official"] = 307
    notes = table_of(made).notes
    assert notes[:2] == ["scenes: 30 of 307 images.", "cls seed 1 ran 5 of 8 steps."]
    assert "c0ffee+changes" in notes[2]


GOLDEN = Path(__file__).resolve().parents[2] / "golden"
GOLDEN_SCORES = {
    "max, dino": Score({0: 0.21, 1: 0.23, 2: 0.25}, Interval(0.2, 0.26)),
    "avg, dino": Score(
        *({0: 0.1, 1: 0.13, 2: 0.13}, Interval(0.09, 0.15)),
        *(-0.11, Interval(-0.14, -0.08), Interval(-0.1348, -0.0852)),
    ),
    "cls, random": Score({0: 0.02}, None, difference=-0.19),
    "cls, dino": Score({}),
}
PAPERS = {"max, dino": 50.8, "avg, dino": 11.6, "cls, dino": 4.0}
PAPER = Paper(
    "arXiv:2210.09996, table 9",
    "CC-12M",
    metrics={"miou": "Pascal VOC mIoU, %"},
    cells={cell: {"miou": number} for cell, number in PAPERS.items()},
)
DESIGN = Design(
    *("aggregation_by_init", "clippy_dino_max", "demo", ()),
    heads=("image.aggregation", "image.init"),
    cells={cell: tuple(cell.split(", ")) for cell in GOLDEN_SCORES},
    against="max, dino",
    metric="scenes/miou",
    paper=PAPER,
)
TABLE = GridTable(
    *("scenes/miou", "", DESIGN, GOLDEN_SCORES, PAPERS),
    baselines={"constant_background": 0.024},
    notes=("cls, random seed 0 ran 5 of 8 steps.",),
).table()
WRITTEN = {
    "md": TABLE.markdown() + "\n",
    "csv": csv_text([TABLE]),
    "tex": latex([TABLE], METHOD),
}


def test_a_finding_says_which_is_higher_by_how_much_what_is_not_clear_and_what_is_trivial():
    scores = GOLDEN_SCORES | {
        "top, dino": Score({0: 0.3}, None, 0.07, Interval(0.01, 0.13)),
        "sum, dino": Score({0: 0.2}, None, -0.03, Interval(-0.1, 0.04), baselines={"chance": 0.3}),
        # the jackknife's interval need not hold the difference
        "few, dino": Score({0: 0.2}, None, -0.014, Interval(0.469, 1.0), part="30 of 50 images"),
    }
    assert finding("scenes/miou", scores, against="max, dino") == (
        "scenes mIoU, on 30 of 50 images: avg, dino is lower than max, dino by 0.110 (95 % "
        "interval over seeds [0.085, 0.135]); top, dino is higher than max, dino by 0.070 (95 % "
        "interval over images [0.010, 0.130]); sum, dino does not differ clearly from max, dino "
        "(difference -0.030, 95 % interval over images [-0.100, +0.040]); few, dino does not "
        "differ clearly from max, dino (difference -0.014, 95 % interval over images [+0.469, "
        "+1.000]). A trivial baseline is higher than sum, dino (0.2000, chance 0.3000)."
    )
    assert finding("scenes/miou", {"cls, dino": Score({})}, against="max, dino") == ""


def test_a_table_is_written_like_the_golden_files(request):
    for kind, text in WRITTEN.items():
        path = GOLDEN / f"ablation_table.{kind}"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text)
        assert text == path.read_text()
