"""Writing a file whole."""

import pytest

from gestalt.support.files import files_hash, replacing


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
    hashes = []
    for folder, content in (("one", "x"), ("two", "x"), ("three", "y")):
        paths = [tmp_path / folder / name for name in ("a", "b")]
        paths[0].parent.mkdir()
        for path in paths:
            path.write_text(content + path.name)
        hashes += [files_hash(paths, folder=tmp_path / folder), files_hash(paths[::-1], folder=tmp_path / folder)]
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3]
    assert hashes[4] != hashes[0]
    assert files_hash(paths[:1], folder=tmp_path / "three") != hashes[4]
