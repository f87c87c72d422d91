"""Writing a file whole."""

import pytest

from gestalt.support.files import replacing


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
