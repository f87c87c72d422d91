"""Thirty mistakes of users are answered by one line each; ``make misuses`` times them."""

from pathlib import Path

import pytest

from tests.gestalt.command import gestalt
from tests.misuses import MISUSES, is_answered, prepare


@pytest.mark.slow
def test_a_mistake_is_answered_by_one_line(tmp_path: Path) -> None:
    assert len(MISUSES) == 30
    prepare(tmp_path)
    for name, misuse in MISUSES.items():
        done = gestalt(*misuse.words, folder=tmp_path)
        assert is_answered(done, misuse), f"{name}: {done.returncode} {done.stderr}"
