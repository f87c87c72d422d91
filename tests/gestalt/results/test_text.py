"""How many images a number stands on, in words; tables in LaTeX."""

import pytest

from gestalt.results.intervals import t_interval
from gestalt.results.text import Table, images_text, interval_text, latex, markdown, part_text


@pytest.mark.parametrize(
    ("entry", "said", "is_part"),
    [
        (
            {"images": 125, "images_in_set": 125, "images_official": 1449},
            "125 of 1449 images",
            True,
        ),
        (
            {"images": 1449, "images_in_set": 1449, "images_official": 1449},
            "all 1449 images",
            False,
        ),
        ({"images": 1000, "images_official": 307}, "1000 images, the published set has 307", True),
        ({"images": 7, "images_in_set": 7}, "7 images", False),  # a record that does not say
        ({"images": 4, "images_in_set": 7}, "4 of 7 images", True),
    ],
)
def test_the_image_count_distinguishes_a_part_from_the_whole_set_where_known(entry, said, is_part):
    assert images_text(entry) == said
    assert part_text(entry) == (said if is_part else "")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.25, 0.25], "[+0.250, +0.250] (all equal)"),
        ([0.25, 0.25 + 1e-9], "[+0.250, +0.250]"),
        ([0.25], "–"),
    ],
)
def test_an_interval_of_equal_values_says_so(values, said):
    assert interval_text(t_interval(values)) == said


def tabular(*values):
    """The lines of a tabular of values, after its comments."""
    text = latex([Table("", [], [], values=values)], method="In brackets: 95 %")
    comments, _, lines = text.partition("\\toprule\n")
    spread = "% ± is the sample standard deviation over seeds.\n" if "pm" in lines else ""
    assert comments.rpartition("\\begin")[0] == f"% In %.\n{spread}"
    return lines.splitlines()


def test_latex_prints_cells_as_rows_and_metrics_as_columns_in_per_cent():
    first = {"cell": "[cls]", "metric": "scenes/miou", "mean": 0.1234, "deviation": 0.01}
    second = {"cell": "*", "metric": "scenes/recall_at_10", "mean": -0.2, "deviation": None}
    assert tabular(first, second) == [
        r" & scenes mIoU & scenes recall at 10 \\",
        r"\midrule",
        r"{}[cls] & 12.3 $\pm$ 1.0 & -- \\",
        r"{}* & -- & $-$20.0 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_markdown_says_how_intervals_are_computed_only_where_it_has_some():
    for cell, has_some in (("0.1 [0.05, 0.2]", True), ("-0.1 [-0.2, -0.05]", True), ("0.1", False)):
        text = markdown([Table("", ["run", "miou"], [["a [b]", cell]])], "In brackets: 95 %")
        assert text.endswith("\nIn brackets: 95 %\n") == has_some


def test_special_characters_are_escaped():
    special = {
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "|": r"\textbar{}",
        "-1": "$-$1",
    }
    special |= {
        "\\": r"\textbackslash \space",
        "~": r"\textasciitilde \space",
        "^": r"\textasciicircum \space",
        "<": r"\textless{}",
    }
    text, escaped = (" ".join(part) for part in (special, special.values()))
    row = tabular({"cell": text, "metric": "miou", "mean": 0.5, "deviation": None})[2]
    assert row == rf"{escaped} & 50.0 \\"
    table = Table("", ["cell", "score"], [["a|b", "0.1"]])
    assert table.markdown().splitlines()[2] == r"| a\|b | 0.1 |"
