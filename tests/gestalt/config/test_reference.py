"""docs/configuration.md is the schema."""

import re
from pathlib import Path

from gestalt.config.keys import fields_below
from gestalt.config.reference import reference
from gestalt.config.schema import Experiment

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_configuration_page_is_up_to_date_with_the_schema():
    message = "run: python -m gestalt.config.reference > docs/configuration.md"
    assert PAGE.read_text() == reference(), message


def test_every_key_has_a_row():
    rows = re.findall(r"^\| `([^`]+)`", reference(), flags=re.MULTILINE)
    assert len(set(rows)) == len(rows)
    assert {name for name, _ in fields_below(Experiment)} == {name for name in rows if "[]" not in name}


def test_every_row_of_a_table_has_four_cells():
    for line in reference().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
