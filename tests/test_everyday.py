"""The commands of README and of the tutorial run from top to bottom, as a reader would type them,
in an empty folder at tiny sizes.
"""

import csv
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data_modules.fakes.masks import draw_voc
from tests.data_modules.tar_files import write_shards
from tests.gestalt.command import gestalt, refused
from tests.gestalt.models.zoo.test_open_clip import saved
from tests.gestalt.tiny_model import save_photo
from tests.test_docs import PAGES
from tests.test_make import ROOT

RUNS = "lightning_logs/clippy_dino_max"
SMALLER = {
    "train": "--scale tiny",
    "ablate": "--scale tiny --dry-run",
    "eval": "benchmark_subset=true",
    "score": "benchmark_subset=true",
}
"""Further words of a command: short runs, and data that are not the whole published set."""

PLACES = {
    "benchmark_root=DIR": "benchmark_root=voc",
    "data.root=DIR": "data.root=tars",
    ":FOLDER": ":clip",
    " RUN": f" {RUNS}/tiny/version_1",
}
"""A place as a page names it -> what the folder has for it."""

MINE = """\
images: images
masks: maps/mine
classes: {other: {values: [0]}, road: {values: [1]}}
background: other
"""


def commands(page: str) -> list[str]:
    """The commands of a page in their order, without those that need a network."""
    text = re.sub(r"\bmake train EXP=(\w+)", r"gestalt train \1", PAGES[page])
    text = text.replace("\\\n", "")
    lines = re.findall(
        r"(?:^|`)(gestalt (?!data get|eval open_clip:ViT)[^`\n#]+)", text, flags=re.MULTILINE
    )
    return list(dict.fromkeys(map(str.strip, lines)))


def draw_data(folder: Path) -> None:
    """Photographs with captions in a CSV and with masks, tars of pairs, a set in VOC's layout with
    its label maps, as another system would predict them, an open_clip model, and the tutorial's
    package.
    """
    save_photo(folder / "photo.jpg")
    shutil.copytree(ROOT / "experiments/pictures", folder / "experiments/pictures")
    write_shards(folder / "tars", [3, 2])
    draw_voc(folder / "voc")
    for part in ("images", "maps/mine", "maps/pascal_voc"):
        (folder / part).mkdir(parents=True)
    for mask in (folder / "voc/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        values = np.asarray(Image.open(mask))
        Image.fromarray(np.where(values == 255, 0, values).astype(np.uint8)).save(
            folder / "maps/pascal_voc" / mask.name
        )
    with (folder / "captions.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for number in range(16):
            Image.new("RGB", (40, 30), (16 * number, 90, 30)).save(folder / f"images/{number}.jpg")
            halves = np.arange(30 * 40).reshape(30, 40) // 600
            Image.fromarray(halves.astype(np.uint8)).save(folder / f"maps/mine/{number}.png")
            table.writerow([f"images/{number}.jpg", f"a road of colour {number}"])
    (folder / "mine.yaml").write_text(MINE)
    (folder / "two.yaml").write_text(
        "base: clippy_dino_max\nvary: {image.aggregation: [max, top_5]}\n"
    )
    (folder / "survey.yaml").write_text(
        "models: {clippy_dino_max: {}}\nbenchmarks: [./mine.yaml]\nprotocols: [whole_square]\n"
    )
    saved(folder / "clip")
    record = folder / "my_package-1.0.dist-info"  # as pip leaves it
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        "[gestalt.aggregations]\nmedian = my_package.pooling:median\n"
    )
    (folder / "my_package").mkdir()
    (code,) = re.findall(r"```python\n(.+?)```", PAGES["docs/tutorial.md"], flags=re.DOTALL)
    (folder / "my_package/pooling.py").write_text(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["README.md", pytest.param("docs/tutorial.md", marks=pytest.mark.nightly)]
)
def test_the_commands_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path / "cache"))
    draw_data(tmp_path)
    said = {}
    for line in commands(page):
        typed = line
        for name, place in PLACES.items():
            line = line.replace(name, place)
        _, command, *words = shlex.split(line)
        done = gestalt(command, *words, *SMALLER.get(command, "").split(), folder=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said[typed] = done
    (segmented,) = [line for line in said if "segment photo.jpg" in line]
    assert "model: classifier:" in said[segmented].stderr
    assert (tmp_path / "photo_segmented.png").is_file()
    assert any((tmp_path / "cache" / "prompts").iterdir())  # the names of the untrained model
    compared = "gestalt compare clippy_dino_max clippy_dino_avg"
    for name in ("clippy_dino_max", "clippy_dino_avg"):
        assert f"| {name} tiny version_" in said[compared].stdout
    shutil.rmtree(tmp_path / RUNS)
    line = "segment photo.jpg --labels 'dog, cat' --model clippy_dino_max --output a.png"
    assert (
        "this experiment has no run here; train it with `gestalt train clippy_dino_max`"
    ) in refused(line, folder=tmp_path)
