"""docs/configuration.md is the schema."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_configuration_page_is_up_to_date_with_the_schema():
    message = "run: python docs/configuration_page.py > docs/configuration.md"
    page = runpy.run_path(str(DOCS / "configuration_page.py"))["reference"]()
    assert (DOCS / "configuration.md").read_text() == page, message
