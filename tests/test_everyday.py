"""The block of everyday commands in the README runs from top to bottom, as a reader would type it,
at tiny sizes.
"""

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
from tests.gestalt.tiny_model import save_photo
from tests.test_make import ROOT

RUN = "lightning_logs/clippy_dino_max/tiny/version_0"
PART = {"eval": ["benchmark_subset=true"], "score": ["benchmark_subset=true"]}
"""Further words of a command, since the small data are not the whole published set."""


def everyday() -> list[str]:
    """The commands of the block."""
    section = (ROOT / "README.md").read_text().partition("## Everyday commands\n")[2]
    block = re.search(r"^```bash\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return [line for line in block[1].splitlines() if line.startswith("gestalt ")]


def draw_data(folder: Path) -> None:
    """A photograph, tars of pairs, and a set in VOC's layout with its label maps, as another system
    would predict them.
    """
    save_photo(folder / "photo.jpg")
    write_shards(folder / "tars", [3, 2])
    draw_voc(folder / "voc")
    (folder / "maps").mkdir()
    for mask in (folder / "voc/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        values = np.asarray(Image.open(mask))
        Image.fromarray(np.where(values == 255, 0, values).astype(np.uint8)).save(
            folder / "maps" / mask.name
        )


@pytest.mark.slow
def test_the_everyday_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path / "cache"))
    draw_data(tmp_path)
    said = {}
    for line in everyday():
        program, command, *words = shlex.split(line, comments=True)
        assert program == "gestalt"
        given = [
            word.replace("benchmark_root=DIR", "benchmark_root=voc").replace(
                "data.root=DIR", "data.root=tars"
            )
            for word in words
        ]
        scale = ["--scale", "tiny"] if command in ("train", "ablate") else []
        done = gestalt(command, *given, *scale, *PART.get(command, []), folder=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said[command] = done
    for command, model in (("eval", f"{RUN}, step 8 of 8"), ("segment", "classifier:")):
        assert f"model: {model}" in said[command].stderr
    assert "miou 1.0000" in said["score"].stdout
    assert all(
        f"{name} tiny version_0" in said["compare"].stdout
        for name in ("clippy_dino_max", "clippy_dino_avg")
    )
    assert (tmp_path / "photo_segmented.png").is_file()
    assert any((tmp_path / "cache" / "prompts").iterdir())  # the names of the untrained model
    shutil.rmtree(tmp_path / RUN)
    line = "segment photo.jpg --labels 'dog, cat' --model clippy_dino_max --output a.png"
    assert (
        "this experiment has no run here; train it with `gestalt train clippy_dino_max`"
    ) in refused(line, folder=tmp_path)
