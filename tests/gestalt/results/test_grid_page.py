"""The page of a grid: pictures that can be opened, TensorBoard that shows them once, files that are
whole.
"""

import io

import numpy as np
import pytest
from PIL import Image

from gestalt.ablation.grid import read_grid
from gestalt.measures.evaluation.pictures import (
    MARGIN,
    PANEL,
    Predictions,
    read_predictions,
    write_predictions,
)
from gestalt.results.grid import GridResults
from gestalt.results.grid_page import montage, write_page
from gestalt.results.result import Result
from tests.gestalt.ablation.fake_run import leave, record
from tests.gestalt.results.test_report import image
from tests.gestalt.tiny_config import tiny_config

GRID = read_grid("aggregation_by_init", scale="tiny")
NAMES = ("background", "cat", "dog")


@pytest.fixture
def view(tmp_path):
    """Some of the cells, with predictions."""
    made = {}
    cells = list(GRID.cells)
    for place, cell in enumerate(cells[-5:-2] + cells[-1:]):
        config = tiny_config(*GRID.words(cell, seed=0), name=GRID.base)
        saved, array = record(config, 0.1 + 0.05 * place)
        folder = tmp_path / "runs" / str(place)
        leave(folder, config, saved, array)
        images = tuple(
            one._replace(prediction=one.label.roll(place, dims=1)) for one in map(image, range(2))
        )
        write_predictions(
            folder / "predictions" / "scenes.npz",
            Predictions(NAMES, background=0, images=images),
        )
        made[cell, 0] = Result(f"{cell} seed 0", folder / "result.json", saved)
    return made


def report(view, folder):
    """Write the page."""
    grid = GridResults(GRID.design(), {"": view}, ["max, random: no luck at s3://u:p@h/x?t=T"])
    return write_page(grid, folder=folder, allow_mixed=False)


def test_the_page_has_tables_pictures_failures_and_times(view, tmp_path):
    page = report(view, tmp_path / "page")
    assert {path.name for path in (tmp_path / "page").iterdir() if "events" not in path.name} == {
        *("table.md", "table.csv", "table.tex", "bars.png", "montage.png"),
        *("page.json", "runs"),
    }
    links = {link.name: link for link in (tmp_path / "page/runs").iterdir()}
    assert len(links) == len(view)
    assert links["max__dino_seed_0"].resolve() == view["max, dino", 0].run.resolve()
    assert page == (tmp_path / "page" / "table.md").read_text()
    assert "| max | supervised | 0 | no result |" in page
    assert "- max, random: no luck at s3://h/x\n" in page
    assert "| max, dino | 1 | 10 s | 1 min 00 s | 20 s | 1 min 30 s |" in page
    assert "## The paper's numbers, never ours" in page
    for name in ("bars", "montage"):
        assert f"![{name}]({name}.png)" in page
        with Image.open(tmp_path / "page" / f"{name}.png") as shown:
            assert min(shown.size) > 200


def test_tensorboard_shows_the_last_page_once(view, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        report(view, tmp_path / "page")
    assert len(list((tmp_path / "page").glob("events*"))) == 1
    events = EventAccumulator(str(tmp_path / "page")).Reload()
    assert set(events.Tags()["images"]) == {"bars", "montage"}
    assert len(events.Images("montage")) == 1
    assert events.Tags()["tensors"] == ["table/text_summary"]
    for one in view.values():
        (one.run / "predictions" / "scenes.npz").unlink()
    report(view, tmp_path / "page")
    assert not (tmp_path / "page" / "montage.png").exists()


def test_a_montage_has_a_column_for_each_cell_that_kept_the_same_images(view):
    def width(image_set="scenes"):
        drawn = montage({cell: result for (cell, _), result in view.items()}, image_set=image_set)
        return None if drawn is None else Image.open(io.BytesIO(drawn)).width

    whole, panel = width(), round(PANEL * 300 / 200) + MARGIN
    assert whole > (len(view) + 2) * panel
    path = list(view.values())[2].run / "predictions" / "scenes.npz"
    kept = read_predictions(path)
    write_predictions(
        path, kept._replace(images=tuple(one._replace(title="another") for one in kept.images))
    )
    assert width() == whole - panel
    assert width("pascal_voc") is None
    for result in view.values():  # evaluation.pictures=0
        write_predictions(result.run / "predictions" / "scenes.npz", kept._replace(images=()))
    assert width() is None


@pytest.mark.parametrize("background", [None, 2])
def test_kept_predictions_are_restored_unchanged(tmp_path, background):
    images = tuple(map(image, range(3)))
    write_predictions(tmp_path / "set.npz", Predictions(NAMES, background, images=images))
    kept = read_predictions(tmp_path / "set.npz")
    assert (kept.names, kept.background) == (NAMES, background)
    for one, other in zip(kept.images, images, strict=True):
        assert one[:2] == other[:2]
        assert all(map(np.array_equal, one[2:], other[2:]))
    assert read_predictions(tmp_path / "none.npz") is None
