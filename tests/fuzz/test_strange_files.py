"""Files that a stranger may name, of every kind, in the place of each file that is read: each is
refused in one line that names it, soon.
"""

import faulthandler
import os
from zlib import crc32

import numpy as np
import pytest

from gestalt.config.loading import load
from gestalt.data_modules.labels.definition import read_definition
from gestalt.data_modules.labels.predicted_maps import read_map
from gestalt.data_modules.pixels.photographs import open_rgb
from gestalt.data_modules.scenes.cutouts import open_file, read_folder
from gestalt.encoders.state_dicts import read_state_dict
from gestalt.models.zoo.open_clip import open_model
from gestalt.runs.cache_key import Description
from gestalt.runs.features import CachedImages
from tests.fuzz.law import held
from tests.gestalt.models.zoo.test_open_clip import write_config


def read_row(file, row=0):
    described = Description({}, "float32", [1024], "float32")
    return CachedImages(described, file.parent, 8, 1, 2).read([(0, row)])


def read_open_clip(file):
    if file.suffix == ".bin":
        write_config(file.parent)
    open_model(str(file.parent))


READERS = {  # the file's name, and what reads it
    "mine.yaml": lambda file: load(str(file), scale="tiny"),
    "benchmark.yaml": lambda file: read_definition(str(file)),
    "map.png": read_map,
    "photograph.jpg": open_rgb,
    "a.png": lambda file: read_folder(file.parent, limit=5),
    "drawn.png": lambda file: open_file(file.name, root=file.parent),
    "a.safetensors": read_state_dict,
    "open_clip_pytorch_model.bin": read_open_clip,
    "open_clip_config.json": read_open_clip,
    "images.npy": read_row,
}
KINDS = {
    "pipe": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "folder": os.mkdir,
    "empty": lambda file: file.touch(),
    "PostScript": lambda file: file.write_bytes(
        b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 64 64\n%%EOF\n"
    ),
    "deep": lambda file: file.write_bytes(b"[" * 10**6),
    "a tebibyte": lambda file: (file.touch(), os.truncate(file, 2**40)),
}


@pytest.fixture(autouse=True)
def in_time():
    """The tests end, also in a library's own code that waits."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_a_strange_file_is_refused_in_one_line_and_runs_nothing(name, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("it runs"))
    (tmp_path / "a.txt").write_text("A dog.")
    KINDS[kind](tmp_path / name)
    with held(naming=(str(tmp_path), name.partition(".")[0])):
        READERS[name](tmp_path / name)
        raise AssertionError("it was read")


def test_a_damaged_row_of_features_is_refused(tmp_path):
    file, rows = tmp_path / "images.npy", np.ones((2, 1024), "f4")
    np.save(tmp_path / "sums.npy", [crc32(rows[0])] * 2)
    rows[1] = 0
    np.save(file, rows)
    assert read_row(file).all()
    with pytest.raises(ValueError, match=r"images\.npy: row 1 is damaged"):
        read_row(file, 1)
