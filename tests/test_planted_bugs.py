"""Each bug of plant_bugs.py fails its test, and without it the test passes; ``-k NAME`` selects."""

import os
import shutil
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tests import warm
from tests.plant_bugs import BUGS

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "data_modules", "docs", "tests", "experiments")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of what the tests need."""
    folder = tmp_path_factory.mktemp("copied")
    for name in COPIED:
        shutil.copytree(
            ROOT / name,
            folder / name,
            symlinks=True,  # src/gestalt/data_modules
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(ROOT / "setup.cfg", folder)
    return folder


def run_tests(folder, *tests):
    """Run tests in a copy, which takes precedence over installed packages."""
    # other people's plugins could be imported already
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(folder / "src"), str(folder)])
    command = [sys.executable, "-m", "pytest", "--tb=short", "--maxfail=1", *tests]
    return warm.run(command, cwd=folder, env=variables, timeout=900)


def rewrite(file, text):
    """Write a module and delete its bytecode, which Python would accept for a file of the same
    second and size.
    """
    file.write_text(text)
    Path(cache_from_source(str(file))).unlink(missing_ok=True)


def test_every_bug_still_has_its_place_in_the_code():
    for bug in BUGS:
        text = (ROOT / bug.file).read_text()
        assert text.count(bug.old) == 1, f"{bug.name}: bring the table up to date"
        compile(text.replace(bug.old, bug.new), bug.file, "exec")
        file, _, test = bug.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), bug.name


@pytest.mark.nightly
def test_the_tests_pass_without_a_bug(copied):
    done = run_tests(copied, *sorted({bug.test for bug in BUGS}))
    assert done.returncode == 0, done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fails_its_test(copied, bug):
    file = copied / bug.file
    text = file.read_text()
    rewrite(file, text.replace(bug.old, bug.new))
    try:
        done = run_tests(copied, bug.test)
    finally:
        rewrite(file, text)
    assert done.returncode == 1, done.stdout  # 2 and above: the test could not run
    assert "\nE  " in done.stdout
