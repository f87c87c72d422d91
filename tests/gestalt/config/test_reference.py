"""docs/configuration.md is the schema."""

from pathlib import Path

from gestalt.config.reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs/configuration.md"


def test_the_configuration_page_is_up_to_date_with_the_schema():
    message = "run: python -m gestalt.config.reference > docs/configuration.md"
    assert PAGE.read_text() == reference(), message
