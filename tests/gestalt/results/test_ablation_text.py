"""A table has the same numbers in Markdown, CSV and LaTeX, with the paper's and ours in separate
columns.
"""

from pathlib import Path

from gestalt.results.ablation import Table, csv_text, latex
from gestalt.results.design import Design, Paper
from gestalt.results.intervals import Interval
from gestalt.results.result import Difference, Score
from gestalt.results.text import markdown_lines

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SCORES = {
    "max, dino": Score({0: 0.21, 1: 0.23, 2: 0.25}, Interval(0.2, 0.26)),
    "avg, dino": Score(
        *({0: 0.1, 1: 0.13, 2: 0.13}, Interval(0.09, 0.15)),
        difference=Difference(-0.11, Interval(-0.14, -0.08), Interval(-0.1348, -0.0852)),
    ),
    "cls, random": Score({0: 0.02}, None, difference=Difference(-0.19, None, None)),
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
    cells={cell: tuple(cell.split(", ")) for cell in SCORES},
    against="max, dino",
    metric="scenes/miou",
    paper=PAPER,
)
TABLE = Table(
    *("scenes/miou", "", DESIGN, SCORES, PAPERS),
    baselines={"constant_background": 0.024},
    notes=("cls, random seed 0 ran 5 of 8 steps.",),
)


def markdown(table):
    return "\n".join(markdown_lines(*table.heads_and_rows())) + "\n"


WRITTEN = {"md": markdown(TABLE), "csv": csv_text([TABLE]), "tex": latex([TABLE])}


def test_a_table_is_written_like_the_golden_files(request):
    for kind, text in WRITTEN.items():
        path = GOLDEN / f"ablation_table.{kind}"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text)
        assert text == path.read_text()
