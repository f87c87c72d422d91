"""An error of the operating system is reported in one line with path and remedy, and leaves no
partial file.
"""

import errno
import os
import re

import pytest
from torch.utils.data import DataLoader, Dataset

from gestalt.runs.folders import new_evaluation
from gestalt.support import faults
from gestalt.support.files import replacing
from gestalt.support.typed import ConfigError
from tests.gestalt.command import run_here

SHEET = "data show scenes --scale tiny --count 2 --columns 2 --to sheet.png"


def test_every_known_errno_is_described_with_its_remedy():
    for number, mend in faults.MENDS.items():
        assert faults.describe(OSError(number, os.strerror(number), "a.json")) == f"a.json: {mend}"


def test_a_failed_write_is_reported_in_one_line_with_path_and_remedy(cwd, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.replace", refuse)
    run_here(SHEET, status=1)
    stderr = capsys.readouterr().err
    assert stderr.startswith(f"gestalt: sheet.png: {faults.MENDS[errno.ENOSPC]}")
    assert stderr.count("\n") == 1
    assert "Errno" not in stderr
    assert not list(cwd.iterdir())


def test_a_program_that_other_code_ends_has_status_1_and_a_line_that_names_the_module(
    monkeypatch, capsys
):
    def leave(*_: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("gestalt.commands.list.run", leave)
    run_here("list", status=1)
    assert re.fullmatch(
        rf"gestalt: {__name__}, line \d+: it ended the command by SystemExit\(0\); .*\n",
        capsys.readouterr().err,
    )


class Unreadable(Dataset):
    """A sample that cannot be read."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("a.png holds values [77]"), "a.png holds values [77]"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.tar"),
            f"a.tar: {faults.MENDS[errno.ENOSPC]}",
        ),
    ],
    ids=["value", "system"],
)
def test_an_error_in_a_loading_process_is_described_like_one_in_the_main_process(
    workers, error, line
):
    with pytest.raises((ValueError, OSError), match=r"a\.(png|tar)") as raised:
        next(iter(DataLoader(Unreadable(error), num_workers=workers)))
    assert faults.describe(raised.value) == line


def test_an_os_error_wrapped_by_a_rust_library_is_recognised():
    line = faults.describe(
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    )
    assert line.endswith(faults.MENDS[errno.ENOSPC])


@pytest.mark.parametrize(
    ("line", "error", "status"),
    [("list losses", KeyError, 1), ("list losses --debug", ConfigError, 2)],
)
def test_a_fault_of_this_program_has_a_traceback_without_secrets(
    line, error, status, monkeypatch, capsys
):
    def fail(*_: object) -> None:
        raise error("at 'http://user:pa/ss@host/x.tar?token=To ken'")

    monkeypatch.setattr("gestalt.commands.list.run", fail)
    run_here(line, status=status)
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback")
    assert "at 'http://host/x.tar'" in stderr
    assert not any(secret in stderr for secret in ("pa/ss", "token", "ken"))


def test_an_error_while_replacing_a_file_names_the_target_file(tmp_path):
    for names in ((), ("{}",), ("/tmp/other", None, "{}")):
        with (
            pytest.raises(OSError, match="full") as error,
            replacing(tmp_path / "a.json") as partial,
        ):
            raise OSError(errno.ENOSPC, "full", *(name and name.format(partial) for name in names))
        assert error.value.filename == str(tmp_path / "a.json")


@pytest.mark.parametrize("removed", [False, True])
def test_a_failed_evaluation_frees_its_number(removed, tmp_path):
    def fail() -> None:
        with new_evaluation(tmp_path) as path:
            (path.with_suffix("") / "arrays").mkdir(parents=True)
            if removed:
                path.unlink()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert not list((tmp_path / "evaluations").iterdir())
