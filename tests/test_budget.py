"""The budget: how much code, how many keys and how many words this repository may hold.  Who adds
beyond it removes elsewhere.
"""

import io
import json
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE_TOKENS = 233_000
TEST_TOKENS = 271_000
KEYS = 140
WORDS = 24_000

LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
)
LINE_ENDS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def code_tokens(text: str) -> int:
    """Count Python's tokens, without comments, line ends, indentation, and strings that are
    statements, such as docstrings.
    """
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL)
    ]
    count = 0
    for position, token in enumerate(tokens):
        if token.type in LAYOUT:
            continue
        starts = position == 0 or tokens[position - 1].type in LINE_ENDS
        if (
            token.type == tokenize.STRING
            and starts
            and tokens[position + 1].type == tokenize.NEWLINE
        ):
            continue
        count += 1
    return count


def files(*folders: str, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of folders with these endings."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in endings and "__pycache__" not in path.parts:
                yield path


def notebook_words(path: Path) -> int:
    """Count the words in the code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return sum(
        len("".join(cell["source"]).split()) for cell in cells if cell["cell_type"] == "code"
    )


def test_the_source_stays_within_its_budget():
    folders = ("src", "data_modules", "docs/examples")
    tokens = sum(
        code_tokens(path.read_text(encoding="utf-8")) for path in files(*folders, endings=(".py",))
    )
    tokens += sum(
        len(path.read_text(encoding="utf-8").split())
        for path in files(*folders, endings=(".html", ".css", ".js"))
    )
    tokens += sum(map(notebook_words, files(*folders, endings=(".ipynb",))))
    assert tokens <= SOURCE_TOKENS


def test_the_tests_stay_within_their_budget():
    assert (
        sum(
            code_tokens(path.read_text(encoding="utf-8"))
            for path in files("tests", endings=(".py",))
        )
        <= TEST_TOKENS
    )


def test_the_configuration_stays_within_its_budget():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert sum(line.startswith("| `") for line in page.splitlines()) <= KEYS


def test_the_docs_stay_within_their_budget():
    pages = [
        ROOT / "README.md",
        *(page for page in files("docs", endings=(".md",)) if page.name != "configuration.md"),
    ]
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in pages) <= WORDS
