"""Options and fixtures that several tests share."""

import os
import sys
from contextlib import contextmanager, nullcontext
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path

import pytest

from gestalt.support import plugins
from tests import warm

# before torch: its threads wait for each other longer than these small tensors take
os.environ.setdefault("OMP_NUM_THREADS", "1")
# the servers of tests run on this machine, which no proxy reaches
os.environ["no_proxy"] = "127.0.0.1"

INSTALLED = [*map(Path, sys.path)]


def added_by_tests(**group):
    """Entry points of the packages that a test puts on the path: rows of one that happens to be
    installed are not the repository's, and laws alone see them.
    """
    return [point for point in entry_points(**group) if point.dist.locate_file("") not in INSTALLED]


plugins.entry_points = added_by_tests


@contextmanager
def with_installed():
    """Let registries have the rows of installed packages."""
    plugins.entry_points = entry_points
    plugins.added_to.cache_clear()
    yield
    plugins.entry_points = added_by_tests
    plugins.added_to.cache_clear()


def pytest_generate_tests(metafunc):
    """Run a test that is marked ``laws(TABLE, ...)`` over every ``name`` of the tables."""
    for law in metafunc.definition.iter_markers("laws"):
        with with_installed():
            metafunc.parametrize("name", dict.fromkeys(chain(*law.args)))


@pytest.fixture(autouse=True)
def _laws_have_installed(request):
    with with_installed() if request.node.get_closest_marker("laws") else nullcontext():
        yield


def pytest_configure(config):
    """Let the workers that this process starts share one warm process."""
    if getattr(config.option, "numprocesses", None):
        os.environ[warm.SHARED] = warm.start()


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write the numbers in tests/golden anew"
    )


@pytest.fixture
def refusal(capsys):
    """A function that runs a command in this process, which has to be refused in one line, after
    the name of its model; returns the line.
    """
    from tests.gestalt.command import run_here

    def refusal(line, *words):
        run_here(line, *words, status=2)
        lines = capsys.readouterr().err.splitlines()
        (said,) = (line for line in lines if not line.startswith("model: "))
        return said

    return refusal


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Leave the user's cache as it is."""
    os.environ["GESTALT_CACHE"] = str(tmp_path_factory.mktemp("gestalt"))


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    """The test's own folder, which is the working directory too."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def real_data():
    """The folder of small real data sets, or a skip that says how to have one."""
    folder = os.environ.get("GESTALT_DATA")
    if not folder:
        pytest.skip("GESTALT_DATA names no folder with flickr8k/ and voc_style/")
    return Path(folder)
