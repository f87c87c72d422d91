"""The wheel: every room is in it, and outside any checkout it trains and scores what another
installed package adds.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from tests.gestalt.command import TINY
from tests.gestalt.tiny_model import WITHOUT_LIGHTNING, export, save_photo

ROOT = Path(__file__).resolve().parents[1]

SETUP = """\
[metadata]
name = median-pooling
version = 1.2
description = Another aggregation
[options]
py_modules = median_pooling, median_benchmark
[options.entry_points]
gestalt.aggregations =
    median = median_pooling:median
gestalt.benchmarks =
    own_scenes = median_benchmark:OWN_SCENES
"""

POOLING = '''\
"""The median of each channel."""

from torch import Tensor

from gestalt.tokens import Tokens


def median(tokens: Tokens) -> Tensor:
    """Take the median of each channel over the real parts.  Returns (B, D)."""
    missing = ~tokens.mask.unsqueeze(-1)
    present = tokens.parts.float().masked_fill(missing, float("nan"))
    return present.nanmedian(dim=1).values.to(tokens.parts.dtype)
'''

BENCHMARK = '''\
"""The embedded scenes under a name of their own, scored by segmentation alone."""

from gestalt.measures.evaluation.benchmarks import Benchmark

OWN_SCENES = Benchmark(
    "own_scenes", "scenes", "scenes", ("segmentation",), splits=("val", "tune"), source="scenes"
)
'''


def test_lightnings_malicious_releases_are_excluded():
    assert "lightning >=2.6, !=2.6.2, !=2.6.3, <3" in (ROOT / "setup.cfg").read_text()


def run(program: str | Path, line: str, *words: str, folder: Path):
    """Run ``PROGRAM LINE WORDS`` without this checkout on the path."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, *line.split(), *words],
        cwd=folder,
        env={**variables, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def wheel(project: Path, to: Path) -> Path:
    """Build the wheel of a project, without network."""
    line = f"-m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir {to} {project}"
    run(sys.executable, line, folder=to)
    (built,) = to.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``gestalt`` in an environment of its own, with both wheels installed and everything else
    taken from this one.
    """
    folder = tmp_path_factory.mktemp("wheels")
    (folder / "ours").mkdir()
    for name in ("src", "data_modules", "experiments"):
        shutil.copytree(
            ROOT / name,
            folder / "ours" / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE.md"):
        shutil.copy(ROOT / name, folder / "ours" / name)
    (folder / "theirs").mkdir()
    for name, text in (
        ("setup.cfg", SETUP),
        ("median_pooling.py", POOLING),
        ("median_benchmark.py", BENCHMARK),
    ):
        (folder / "theirs" / name).write_text(text)
    (folder / "theirs" / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    wheels = []
    for name in ("ours", "theirs"):
        (folder / f"{name}_wheel").mkdir()
        wheels.append(str(wheel(folder / name, folder / f"{name}_wheel")))
    run(sys.executable, "-m venv --without-pip venv", folder=folder)
    install = "-m pip --python venv/bin/python install --quiet --no-deps --no-index"
    run(sys.executable, install, *wheels, folder=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # a plain line: this environment's own .pth files stay unread
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin" / "gestalt"


@pytest.mark.slow
def test_outside_a_checkout_train_and_eval_use_what_a_package_adds(program, tmp_path):
    code = (
        "import gestalt, gestalt.data_modules; print(gestalt.__file__, "
        "gestalt.data_modules.__file__)"
    )
    files = run(program.with_name("python"), "-c", code, folder=tmp_path).stdout.split()
    assert all(file.startswith(str(program.parents[1])) for file in files)
    (row,) = (
        line
        for line in run(program, "list aggregations", folder=tmp_path).stdout.splitlines()
        if "median" in line
    )
    found = "median median-pooling 1.2 Take the median of each channel over the real parts."
    assert " ".join(row.split()) == f"{found} Returns (B, D)."
    (tmp_path / "mine.yaml").write_text("image: {init: random, aggregation: median}\n")
    line = (
        f"train ./mine.yaml {TINY} trainer.max_steps=2 evaluation.pictures=0 "
        "evaluation.benchmarks=[own_scenes]"
    )
    done = run(program, line, folder=tmp_path)
    assert "own_scenes/miou " in done.stdout
    record = json.loads((tmp_path / "lightning_logs/mine/tiny/version_0/result.json").read_text())
    assert record["config"]["image"]["aggregation"] == "median"
    scored = run(program, "eval lightning_logs/mine evaluation.limit=3", folder=tmp_path)
    assert "own_scenes: 3 of 307 images" in scored.stdout


@pytest.mark.slow
def test_outside_a_checkout_and_without_lightning_pictures_are_segmented_and_grouped(
    program, tmp_path
):
    export(tmp_path / "exported")
    save_photo(tmp_path / "photo.jpg")
    lines = """
import gestalt
model = gestalt.load("exported", "cpu")
model.segment("photo.jpg", ["dog", "grass"]).save("seen.png")
model.similarity("photo.jpg", ["dog"])
model.group("photo.jpg", 3)
"""
    run(program.with_name("python"), "-c", WITHOUT_LIGHTNING + lines, folder=tmp_path)
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.height > 320
