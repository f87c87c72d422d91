"""Each bug of plant_bugs.py fails its test, and without it the test passes."""

import pytest

from tests import warm
from tests.plant_bugs import BUGS, ROOT, copy_code, failure, run_tests, with_bug

over_the_table = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copied")
    copy_code(folder)
    return folder


@over_the_table
def test_every_bug_still_has_its_place_in_the_code(bug):
    text = (ROOT / bug.file).read_text()
    assert with_bug(bug, text) != text
    file, _, test = bug.test.partition("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()


def test_every_bug_has_a_name_of_its_own():
    assert len({bug.name for bug in BUGS}) == len(BUGS)


def test_a_bug_whose_code_is_not_found_exactly_once_is_refused():
    with pytest.raises(ValueError, match="0 times, expected once"):
        with_bug(BUGS[0]._replace(old="no such text"), "some text")
    with pytest.raises(ValueError, match="2 times, expected once"):
        with_bug(BUGS[0]._replace(old="some"), "some text, some more")


@pytest.mark.nightly
def test_the_tests_pass_without_a_bug(copied):
    done = run_tests(copied, *sorted({bug.test for bug in BUGS}), run=warm.run)
    assert done.returncode == 0, done.stdout


@pytest.mark.nightly
@over_the_table
def test_a_planted_bug_fails_its_test(copied, bug):
    assert failure(copied, bug, run=warm.run) is not None
