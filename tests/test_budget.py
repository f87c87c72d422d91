"""The budget: ceilings on the tokens of code and on the configuration keys of this repository.  A
change that would go beyond one removes something elsewhere.  Words have no ceiling.
"""

import io
import json
import sys
import tokenize
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE_TOKENS = 250_000
TEST_TOKENS = 290_000
KEYS = 170

on_python_3_11 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the budget counts an f-string as one token, as 3.11 does"
)
LINE_ENDS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def code_tokens(text: str) -> int:
    """Count Python's tokens, without comments, line ends, indentation, and strings that are
    statements, such as docstrings.
    """
    left_out = (tokenize.COMMENT, tokenize.NL)
    lines = io.StringIO(text).readline
    tokens = [token for token in tokenize.generate_tokens(lines) if token.type not in left_out]
    count, before = 0, tokenize.NEWLINE
    for token, after in pairwise(tokens):
        alone = before in LINE_ENDS and after.type == tokenize.NEWLINE
        if token.type not in LINE_ENDS and not (token.type == tokenize.STRING and alone):
            count += 1
        before = token.type
    return count


def notebook_words(text: str) -> int:
    """Count the words in the code cells of a notebook."""
    cells = json.loads(text)["cells"]
    return sum(
        len("".join(cell["source"]).split()) for cell in cells if cell["cell_type"] == "code"
    )


def total(count: Callable[[str], int], ending: str, *folders: str) -> int:
    """Sum a count over the files of folders with this ending."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob(f"*{ending}")]
    return sum(count(path.read_text(encoding="utf-8")) for path in paths)


def words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


@on_python_3_11
def test_the_source_stays_within_its_budget():
    folders = ("src", "data_modules", "docs/examples")
    tokens = total(code_tokens, ".py", *folders) + total(notebook_words, ".ipynb", *folders)
    tokens += sum(total(words, ending, *folders) for ending in (".html", ".css", ".js"))
    assert tokens <= SOURCE_TOKENS


@on_python_3_11
def test_the_tests_stay_within_their_budget():
    assert total(code_tokens, ".py", "tests") <= TEST_TOKENS


def test_the_configuration_stays_within_its_budget():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert sum(line.startswith("| `") for line in page.splitlines()) <= KEYS
