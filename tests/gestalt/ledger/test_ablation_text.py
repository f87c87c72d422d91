"""A table has the same numbers in Markdown, CSV and LaTeX, with the paper's and ours in separate columns."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from gestalt.ledger.ablation import Row, Table, csv_text, latex
from gestalt.ledger.design import Design, Paper
from gestalt.ledger.intervals import Interval
from gestalt.ledger.scores import Difference, Score
from gestalt.ledger.text import markdown_lines

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
ROWS = (
    Row("max, dino", ("max", "dino"), Score({0: 0.21, 1: 0.23, 2: 0.25}, Interval(0.2, 0.26)), paper=50.8),
    Row(
        *("avg, dino", ("avg", "dino")),
        Score(
            *({0: 0.1, 1: 0.13, 2: 0.13}, Interval(0.09, 0.15)),
            difference=Difference(-0.11, 3, Interval(-0.14, -0.08), Interval(-0.1348, -0.0852)),
        ),
        paper=11.6,
    ),
    Row("cls, random", ("cls", "random"), Score({0: 0.02}, None, difference=Difference(-0.19, 1, None, None))),
    Row("cls, dino", ("cls", "dino"), Score({}), paper=4.0),
)
OTHER_SEEDS = Row("max, dino", ("max", "dino"), Score({7: 1 / 3, 11: 2 / 3}, Interval(1e-9, 0.7)))
PAPER = Paper(
    "arXiv:2210.09996, table 9",
    "CC-12M",
    metrics={"miou": "Pascal VOC mIoU, %"},
    cells={row.cell: {"miou": row.paper} for row in ROWS if row.paper is not None},
)
DESIGN = Design(
    *("aggregation_by_init", "clippy_dino_max", "demo", ()),
    heads=("image.aggregation", "image.init"),
    cells={row.cell: row.settings for row in ROWS},
    against="max, dino",
    metric="scenes/miou",
    paper=PAPER,
)
TABLE = Table(
    "scenes/miou",
    "",
    DESIGN,
    rows=ROWS,
    baselines={"constant_background": 0.024},
    notes=("cls, random seed 0 ran 5 of 8 steps.",),
)


def markdown(table):
    return "\n".join(markdown_lines(*table.heads_and_rows())) + "\n"


WRITTEN = {"md": markdown(TABLE), "csv": csv_text([TABLE]), "tex": latex(TABLE)}


def test_a_table_is_written_like_the_golden_files(request):
    for kind, text in WRITTEN.items():
        path = GOLDEN / f"ablation_table.{kind}"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text)
        assert text == path.read_text()


def test_the_papers_column_is_absent_without_paper_numbers():
    rows = tuple(Row(row.cell, row.settings, Score(row.score.values)) for row in ROWS)
    without = replace(TABLE, design=replace(DESIGN, paper=None), rows=rows)
    assert "paper" not in markdown(without)
    assert "paper" not in latex(without)
    assert {row["paper"] + row["paper_is"] for row in csv.DictReader(io.StringIO(csv_text([without])))} == {""}


def test_csv_keeps_every_digit_and_every_seed():
    rows = list(csv.DictReader(io.StringIO(WRITTEN["csv"])))
    rows += csv.DictReader(io.StringIO(csv_text([replace(TABLE, rows=(OTHER_SEEDS,))])))
    for row, written in zip((*ROWS, OTHER_SEEDS), rows, strict=True):
        score, difference = row.score, row.score.difference
        assert dict(zip(map(int, written["seeds"].split()), map(float, written["scores"].split()), strict=True)) == score.values
        numbers = {"mean": score.mean, "deviation": score.deviation, "difference": difference and difference.mean, "paper": row.paper}
        intervals = {"images": score.over_images}
        intervals |= {f"difference_{kind}": difference and getattr(difference, f"over_{kind}") for kind in ("images", "seeds")}
        for name, interval in intervals.items():
            numbers |= {f"{name}_low": interval and interval.low, f"{name}_high": interval and interval.high}
        assert {name: float(written[name]) if written[name] else None for name in numbers} == numbers


def test_latex_is_escaped():
    assert "$-$0.110" in WRITTEN["tex"]
    assert r"0.230 $\pm$ 0.020" in WRITTEN["tex"]
    special = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    text, escaped = (" ".join(part) for part in (special, special.values()))
    odd = replace(TABLE, metric=f"metric {text}", design=replace(DESIGN, against=text), rows=(replace(ROWS[0], settings=(text, "dino")),))
    head, row = (line for line in latex(odd).splitlines() if line.endswith(r" \\"))
    assert head.count(escaped) == 2  # the metric, and the cell that is compared with
    assert row.startswith(f"{escaped} & dino & ")


def test_a_bar_in_a_name_does_not_make_a_column():
    odd = replace(TABLE, design=replace(DESIGN, heads=("cell",), against="a|b"), rows=(Row("a|b", ("a|b",), Score({0: 0.1})),))
    lines = [line for line in markdown(odd).splitlines() if line.startswith("|")]
    assert lines[2].startswith(r"| a\|b |")
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [9] * 3
