"""The examples of the pages on Python and Lightning, of the README and of the notebooks run, on a
tiny model.
"""

import json
import re
from pathlib import Path

import pytest

import gestalt
from gestalt.encoders.weights import weights_hash
from tests.gestalt.tiny_model import export, save_photo, save_run

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTEBOOKS = {path.name: json.loads(path.read_text()) for path in DOCS.glob("examples/*.ipynb")}
pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@pytest.fixture(autouse=True)
def _there(cwd):
    export(cwd / "exported")
    save_run(cwd)
    save_photo(cwd / "photo.jpg")


def run_all(blocks, name):
    """Run Python with the scale ``tiny`` in place of ``demo``; return the names that it leaves."""
    names = {}
    for block in blocks:
        exec(compile(block.replace('"demo"', '"tiny"'), name, "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's, of short runs
@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/lightning.md"])
def test_the_examples_of_a_page_run(page):
    text = (ROOT / page).read_text()
    blocks = r"^```python\n(?!# \w+\.py\n)(.*?)^```"  # files of test_zero_shot.py
    names = run_all(re.findall(blocks, text, re.MULTILINE | re.DOTALL), page)
    assert page != "docs/python.md" or Path("photo_segmented.png").is_file()
    if page == "README.md":
        record = gestalt.train(gestalt.experiment("clippy_dino_max", "seed=1", scale="tiny"))
        assert weights_hash(names["run"].module.model) == record["weights_sha256"]
    if page == "docs/lightning.md":
        origin = names["gestalt"].load("mine/last.ckpt", "cpu").origin
        assert origin == "mine/last.ckpt, step 8 of 8"
    if page == "docs/python.md":
        assert len(names["results"]) == 3
        assert names["last"].shape == names["second_last"].shape == (1, 32, 8, 12)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_without_outputs(name):
    notebook = NOTEBOOKS[name]
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert not [
        cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_cells_of_a_notebook_run(name, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code"]
    names = run_all(("".join(cell["source"]) for cell in cells), name)
    assert tuple(names["vectors"].shape) == (2,)
    assert tuple(names["features"].shape) == (1, 32, 28, 28)
