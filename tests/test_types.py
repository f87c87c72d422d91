"""A type checker sees the public names and what they take and return, and nothing else."""

import re

import pytest
from mypy import api

from tests.gestalt.command import ROOT

USES = """
from typing import assert_type
from torch import Tensor
import gestalt

assert_type(gestalt.__version__, str)
gestalt.laod("exported")  # wrong
gestalt.ZeroShot("scenes", "scenes_matching", limit=3)
gestalt.ZeroShot(benchmarks=[3])  # wrong
model = gestalt.load("exported")
gestalt.ZeroShot(benchmarks=["scenes"], model={"pooled": "pooled", "texts": model.embed_text})
assert_type(model.group("photo.jpg", 3, protocol="kmeans_square"), Tensor)
assert_type(model.group(["photo.jpg"]), list[Tensor])
model.group("photo.jpg", protocl="kmeans_square")  # wrong
assert_type(model.similarity("photo.jpg", ["a"], size="image", reading="naclip"), Tensor)
assert_type(model.similarity(["photo.jpg"], ["a"]), list[Tensor])
model.similarity("photo.jpg", ["a"], threshold=0.2)  # wrong
model.similarity("photo.jpg", ["a"], size="picture")  # wrong
model.segment("photo.jpg", ["a"], threshold=0.2)
"""


@pytest.mark.slow
def test_mypy_refuses_what_the_public_names_do_not_take(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # whose setup.cfg and cache it reads
    (tmp_path / "uses.py").write_text(USES)
    said, failed, _ = api.run([str(tmp_path / "uses.py")])
    assert not failed
    found = {int(line) for line in re.findall(r"uses.py:(\d+): error", said)}
    lines = USES.splitlines()
    assert found == {number for number, line in enumerate(lines, 1) if "# wrong" in line}, said
