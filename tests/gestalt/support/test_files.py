"""Writing a file whole."""

import os
import subprocess
import sys

import pytest

from gestalt.support.files import (
    files_hash,
    filled_folder,
    partial_beside,
    read_json,
    replacing,
)


def test_the_new_content_replaces_the_old(tmp_path):
    path = tmp_path / "new" / "a.json"
    for content in ("old", "new"):
        with replacing(path) as partial:
            partial.write_text(content)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as partial:
            partial.write_text("ne")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_of_files_depends_on_names_and_contents_and_not_on_their_order_or_place(tmp_path):
    hashes = {}
    for folder, content in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / name for name in ("a", "b")]
        for path in paths:
            path.write_text(content)
        hashes[folder] = files_hash(paths, folder=tmp_path / folder)
        assert (
            files_hash(paths[::-1], folder=tmp_path / folder)
            == hashes[folder]
            != files_hash(paths[:1], folder=tmp_path / folder)
        )
    assert hashes["one"] == hashes["two"] != hashes["three"]


def left_by(process, beside):
    """A partial file that a killed process of that number left."""
    left = beside.with_name(partial_beside(beside).name.replace(f".{os.getpid()}.", f".{process}."))
    left.write_text("ha")
    return left


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_next_writer_in_a_folder_removes_the_partial_files_of_dead_processes(tmp_path, dead):
    left = left_by(dead, tmp_path / "other.json")
    folder = left_by(dead, tmp_path / "tars")
    folder.unlink()
    (folder / "shards").mkdir(parents=True)
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("new")
    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_partial_file_of_a_living_process_stays_and_one_of_another_host_for_a_week(
    tmp_path, dead
):
    living = left_by(os.getppid(), tmp_path / "last.ckpt")
    elsewhere = tmp_path / f"last.ckpt.another-host-1.{dead}.partial"
    elsewhere.write_text("ha")
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("new")
    assert living.exists()
    assert elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    partial_beside(tmp_path / "a.json")
    assert elsewhere.exists()  # of another file
    partial_beside(tmp_path / "last.ckpt")
    assert not elsewhere.exists()


@pytest.mark.parametrize("there", [[], ["mine"], ["a/mine"]])
def test_a_folder_is_filled_when_all_is_written_and_keeps_its_files(there, tmp_path, dead):
    folder = tmp_path / "out"
    for name in there:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("old")
    left_by(dead, folder / "new" if there else folder)
    with filled_folder(folder) as partial:
        for name in ("a/1", "2"):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text("new")
        assert not (folder / "2").exists()
    found = {
        path.relative_to(tmp_path).as_posix(): path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == {"out/a/1": "new", "out/2": "new", **{f"out/{name}": "old" for name in there}}
    with pytest.raises(FileExistsError, match="out/2"), filled_folder(folder) as partial:
        (partial / "2").write_text("newer")
    assert (folder / "2").read_text() == "new"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": [1, [NaN]]}}', "b holds nan, which is not a finite number"),
        ('{"a": -1e999}', "a holds -inf, which is not a finite number"),
        ('{"a": [{"b": 1, "b": 1}]}', "b is given twice"),
    ],
)
def test_json_that_readers_understand_differently_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json", "run")
