"""Checks of a file's first bytes, before torch is imported, refuse what opening the source refuses,
in the same words.
"""

import gzip
import io
import tarfile
from typing import Any

import pytest

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.file_checks import check_files
from gestalt.data_modules.keys import Data
from gestalt.data_modules.sources import open_source

REFUSED: dict[str, tuple[str, bytes, str | None, dict[str, Any]]] = {
    "text as a tar": ("tars", b"not a tar", None, {}),
    "table without the columns": ("table", b"a,b\n1,2\n", None, {}),
    "table without the caption": ("table", b"image,text\n1,2\n", "title", {}),
    "table with a column twice": ("table", b"image,text,text\n1,2,3\n", None, {}),
    "table without its folder": ("table", b"image,text\n1,2\n", None, {"images": "nowhere"}),
    "text as parquet": ("parquet", b"not parquet", None, {}),
}
ENDINGS = {"tars": "a.tar", "table": "a.csv", "parquet": "a.parquet"}


@pytest.mark.parametrize(("source", "content", "caption", "options"), REFUSED.values(), ids=REFUSED)
def test_the_early_check_raises_the_same_message_as_the_source(
    source, content, caption, options, tmp_path
):
    root = tmp_path / ENDINGS[source]
    root.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as late:
        open_source(
            source,
            root=str(root),
            size=8,
            seed=0,
            limit=None,
            captions=CaptionRule(caption),
            **options,
        )
    with pytest.raises(ValueError, match=r".") as early:
        check_files(Data(source, str(root), options, caption=caption))
    assert str(early.value) == str(late.value)


def tar(*, members: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(members):
            archive.addfile(tarfile.TarInfo(f"{number}.txt"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        ("tars", "a.tar", tar(members=2)),
        ("tars", "a.tar", tar(members=0)),
        ("tars", "a.tar", b""),
        ("tars", "a.tar.gz", b"any"),
        ("table", "a.csv", b"\xef\xbb\xbfimage,caption\n0.jpg,a\n"),
        ("table", "a.csv.gz", gzip.compress(b"image,caption\n0.jpg,a\n", mtime=0)),
        ("flickr", "a", b"not looked at"),
    ],
)
def test_files_whose_first_bytes_show_no_fault_pass_the_early_check(
    source, name, content, tmp_path
):
    (tmp_path / name).write_bytes(content)
    check_files(Data(source, str(tmp_path / name)))
