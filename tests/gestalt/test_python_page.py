"""The examples of the page on Python, of the README and of the notebook run, on a tiny model."""

import json
import re
from pathlib import Path

import pytest

from tests.gestalt.tiny_model import export, save_photo, save_run

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((ROOT / "docs" / "examples" / "quickstart.ipynb").read_text())
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    export(tmp_path / "exported")
    save_run(tmp_path)
    save_photo(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


def test_the_examples_of_the_page_run():
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (ROOT / "docs" / "python.md").read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    names = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert Path("photo_segmented.png").is_file()
    assert len(names["results"]) == 3
    assert names["last"].shape == names["second_last"].shape == (1, 32, 8, 12)


def test_the_example_of_the_readme_runs():
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    exec(compile(block, "README.md", "exec"), {})
    assert Path("photo_segmented.png").is_file()


def test_the_notebook_is_stored_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert not [
        cell for cell in NOTEBOOK["cells"] if cell.get("outputs") or cell.get("execution_count")
    ]


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names)
    assert tuple(names["vectors"].shape) == (2,)
    assert tuple(names["features"].shape) == (1, 32, 28, 28)
