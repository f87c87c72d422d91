"""Tars that nobody would write by accident, and files that are not files: each ends in a count or
in one line.
"""

import os

import pytest

from gestalt.data_modules.corpora.shards import ShardReader
from gestalt.data_modules.pixels.bad_samples import BadSample
from tests.data_modules.files import opened, pair_or_bad
from tests.data_modules.tar_files import header_block, jpeg, write_shards

END = bytes(1024)


def member(name, content, *, size=None, kind=b"0"):
    return (
        header_block(name, len(content) if size is None else size, kind=kind)
        + content
        + bytes(-len(content) % 512)
    )


def samples(path, *parts):
    """(key, caption) of each sample of a tar of these bytes, or (reason, key)."""
    path.write_bytes(b"".join(parts) + END)
    source, read = opened("tars", path), []
    for index in range(len(source)):
        pair = pair_or_bad(source, index)
        bad = isinstance(pair, BadSample)
        read.append((pair.reason, pair.key) if bad else (source.read(index).key, pair[1]))
    return read


@pytest.fixture
def read_from(monkeypatch):
    """The first bytes of all reads of samples, while a test runs."""
    starts, real = [], ShardReader.read

    def recorded(self, shard, ranges):
        starts.extend(start for start, _ in ranges)
        return real(self, shard, ranges)

    monkeypatch.setattr(ShardReader, "read", recorded)
    return starts


FIRST = (member("1.jpg", jpeg(1)), member("1.txt", b"one"))


@pytest.mark.parametrize("kind", [b"L", b"x"])
def test_a_chain_of_thousands_of_extension_headers_is_refused_or_read(tmp_path, kind):
    """Newer releases of Python read one kind in a loop instead of by recursion."""
    chain = member("long", b"2.jpg\0", kind=kind) * 3000
    try:
        outcome = samples(tmp_path / "a.tar", *FIRST, chain, member("2.jpg", jpeg(2)))[0]
    except ValueError as error:
        outcome = str(error)
    assert outcome == ("1", "one") or "a.tar: cannot be read: " in outcome


@pytest.mark.parametrize("kind", [b"L", b"x", b"g"])
def test_an_extension_header_of_gigabytes_truncates_the_tar(tmp_path, kind):
    assert samples(tmp_path / "a.tar", *FIRST, header_block("long", 2**32, kind=kind)) == [
        ("1", "one")
    ]


@pytest.mark.parametrize(
    "size", [10**6, b"\x80" + b"\0" * 3 + b"\x7f" * 8], ids=["a megabyte", "exabytes"]
)
def test_a_member_that_ends_beyond_the_file_is_one_bad_sample_of_a_truncated_tar(tmp_path, size):
    assert samples(tmp_path / "a.tar", *FIRST, header_block("2.jpg", size)) == [
        ("1", "one"),
        ("truncated_shard", "2"),
    ]
    source = opened("tars", tmp_path / "a.tar")
    assert source.about()["truncated_shards"]["count"] == 1


def test_a_text_file_too_large_for_a_caption_is_not_read(tmp_path, monkeypatch, read_from):
    monkeypatch.setattr("gestalt.data_modules.sources.tars.MAX_TEXT", 10)
    parts = (
        member("1.jpg", jpeg(1)),
        member("1.json", b'{"caption": "a"}'),
        member("2.jpg", jpeg(2)),
        member("2.txt", b"two"),
    )
    assert samples(tmp_path / "a.tar", *parts) == [("caption_too_long", "1"), ("2", "two")]
    assert min(read_from) >= len(parts[0] + parts[1])


PIPES = {  # source, path of the pipe, data.root
    "a tar": ("tars", "a.tar", "a.tar"),
    "a table": ("table", "a.csv", "a.csv"),
    "parquet": ("parquet", "a.parquet", "a.parquet"),
    "annotations": ("coco_captions", "coco/annotations/captions_train2017.json", "coco"),
    "captions": ("flickr", "flickr/captions.txt", "flickr"),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_refused_and_not_opened(tmp_path, name):
    source, pipe, root = PIPES[name]
    for folder in ("coco/train2017", "coco/annotations", "flickr/Images", "rows"):
        (tmp_path / folder).mkdir(parents=True)
    write_shards(tmp_path / "tars", [1])
    (tmp_path / "flickr/Flickr_8k.trainImages.txt").write_text("1.jpg\n")
    os.mkfifo(tmp_path / pipe)
    with pytest.raises(
        ValueError, match=r"^[^\n]*" + pipe.rsplit("/", 1)[-1] + r"[^\n]*$|no file (at|in)"
    ):
        opened(source, tmp_path / root)
