"""``gestalt list``: names, what they are, where they are from."""

import subprocess
import sys

import pytest

from gestalt.__main__ import main
from gestalt.commands.list import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_a_description_and_an_origin(kind, capsys):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    for row in KINDS[kind]():
        assert all((row.name, row.line, row.package)), row
        assert any(line.split()[0] == row.name for line in lines)


def test_a_reader_that_stops_early_sees_no_error():
    listing = subprocess.Popen(
        [sys.executable, "-m", "gestalt", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.close()
    assert (listing.stderr.read(), listing.wait()) == (b"", 0)
    listing.stderr.close()
