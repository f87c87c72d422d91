"""Each bug of plant_bugs.py fails its test, and without it the test passes."""

import pytest

from tests import warm
from tests.plant_bugs import BUGS, ROOT, copy_code, failure, run_tests, with_bug


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copied")
    copy_code(folder)
    return folder


def test_every_bug_still_has_its_place_in_the_code():
    for bug in BUGS:
        text = (ROOT / bug.file).read_text()
        assert with_bug(bug, text) != text, bug.name
        file, _, test = bug.test.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), bug.name


@pytest.mark.nightly
def test_the_tests_pass_without_a_bug(copied):
    done = run_tests(copied, *sorted({bug.test for bug in BUGS}), run=warm.run)
    assert done.returncode == 0, done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fails_its_test(copied, bug):
    assert failure(copied, bug, run=warm.run) is not None
