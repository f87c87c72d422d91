"""Tars: every sample at its place, whatever order, format or fault its members have."""

import errno
import gzip
import io
import os
import tarfile
from functools import partial

import fsspec
import pytest

from gestalt.data_modules.corpora import shard_names, tar_files, tar_index
from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.shards import cache_folder, look_up
from gestalt.data_modules.pixels.bad_samples import BadSample
from tests.data_modules import files
from tests.data_modules.tar_files import jpeg, members, write_shards, write_tar


def opened(root, *, column=None, cache=None, **options):
    rule = CaptionRule(column=column)
    cache = None if cache is None else str(cache)
    return files.opened("tars", root, captions=rule, cache=cache, **options)


def stored(source):
    """(key, caption) of each sample, or (reason, key) of a bad one."""
    samples = []
    for index in range(len(source)):
        try:
            source.pair(index, 0)
            held = source.read(index)
            samples.append(
                (
                    held.key,
                    held.captions.decode() if isinstance(held.captions, bytes) else held.captions,
                )
            )
        except BadSample as bad:
            samples.append((bad.reason, bad.key))
    return samples


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "tars", [5, 3, 4])


# it leaves its file open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_samples_of_a_tar_equal_those_read_by_webdataset(shards):
    import webdataset

    items = webdataset.WebDataset(str(shards / "s-0000.tar"), shardshuffle=False)
    theirs = [(item["__key__"], item["jpg"], item["txt"]) for item in items]
    source = opened(shards / "s-0000.tar")
    samples = map(source.read, range(len(source)))
    assert [(sample.key, sample.image, sample.captions) for sample in samples] == theirs
    assert len(theirs) == 5


@pytest.mark.parametrize(
    "pattern", ["s-{0000..0002}.tar", "s-000{0,1,2}.tar", "s-*.tar", "", "list.txt"]
)
def test_shards_are_named_by_braces_a_star_a_folder_or_a_list(shards, pattern):
    (shards / "list.txt").write_text(f"{shards}/s-0000.tar\n\n{shards}/s-{{0001..0002}}.tar\n")
    assert stored(opened(shards / pattern)) == [
        (f"{number:05d}", f"picture {number}") for number in range(12)
    ]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_other_formats_are_read(tmp_path, format):
    name = f"{'d' * 60}/{'e' * 60}/00001"
    path = write_tar(
        tmp_path / "a.tar",
        [(f"{name}.jpg", jpeg(1)), (f"{name}.txt", b"one"), ("2.PNG", jpeg(2)), ("2.txt", b"two")],
        format=format,
    )
    assert stored(opened(path)) == [(name, "one"), ("2", "two")]


def test_members_of_a_key_need_not_be_neighbours_and_others_are_passed_over(tmp_path):
    order = [
        ("1.jpg", jpeg(1)),
        ("2.jpg", jpeg(2)),
        ("note.md", b"x"),
        ("._1.jpg", b"x"),
        ("2.txt", b"two"),
        ("1.cls", b"3"),
        ("1.txt", b"one"),
    ]
    assert stored(opened(write_tar(tmp_path / "a.tar", order))) == [("1", "one"), ("2", "two")]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (None, "picture 3"),
        ("txt", "picture 3"),
        ("caption", "picture 3"),
        ("alt", ["first 3", "second 3"]),
    ],
)
def test_the_caption_is_the_text_or_a_key_of_the_record(shards, column, expected):
    assert stored(opened(shards, column=column))[3] == ("00003", expected)


def test_a_bad_sample_keeps_its_index_and_has_a_reason(tmp_path):
    long = b"x" * 100_000
    planted = [
        *members(range(1)),
        *[("z.jpg", b""), ("z.txt", b"zero")],
        *[("t.jpg", jpeg(1, side=200)[:400]), ("t.txt", b"torn")],
        *[("n.jpg", b"<html>"), ("n.txt", b"page")],
        *[("i.txt", b"no image")],
        *[("m.jpg", jpeg(1))],
        *[("e.jpg", jpeg(1)), ("e.txt", b" \n")],
        *[("u.jpg", jpeg(1)), ("u.txt", b"caf\xe9")],
        *[("l.jpg", jpeg(1)), ("l.txt", long)],
        *[("j.jpg", jpeg(1)), ("j.json", b"{")],
        *[("d.jpg", jpeg(1)), ("d.json", b"[" * 100_000)],
        *members(range(1)),
        *[("../p.jpg", jpeg(1)), ("../p.txt", b"up")],
        *[("/r.jpg", jpeg(1)), ("/r.txt", b"root")],
        *[("a.0.jpg", jpeg(1)), ("a.0.txt", b"dots"), ("m.seg.png", b"a part of m")],
        *members(range(1, 2)),
    ]
    assert stored(opened(write_tar(tmp_path / "a.tar", planted))) == [
        ("00000", "picture 0"),
        ("zero_bytes", "z"),
        ("truncated", "t"),
        ("not_an_image", "n"),
        ("missing_image", "i"),
        ("missing_caption", "m"),
        ("empty_caption", "e"),
        ("caption_encoding", "u"),
        ("caption_too_long", "l"),
        ("caption_encoding", "j"),
        ("caption_encoding", "d"),
        ("duplicate_key", "00000"),
        ("unsafe_member", "../p"),
        ("unsafe_member", "/r"),
        ("00001", "picture 1"),
        ("dotted_name", "a.0"),
    ]


def test_a_link_is_not_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "s.jpg"), (tarfile.LNKTYPE, "h.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("g.jpg")
        info.size = len(jpeg(1))
        tar.addfile(info, io.BytesIO(jpeg(1)))
    assert stored(opened(tmp_path / "a.tar")) == [
        ("unsafe_member", "s"),
        ("unsafe_member", "h"),
        ("missing_caption", "g"),
    ]


@pytest.mark.parametrize("cut", [200, 700, 1100, 1600, 2500])
def test_the_complete_samples_of_a_truncated_tar_are_read(tmp_path, cut):
    folder = write_shards(tmp_path / "tars", [2, 4])
    path = folder / "s-0001.tar"
    content = path.read_bytes()
    end = content.rindex(b"00005.json") + 1536  # behind the last member
    path.write_bytes(content[: end - cut])
    source = opened(folder)
    assert source.about() == {"truncated_shards": {"count": 1, "first": str(path)}}
    whole = [(f"{number:05d}", f"picture {number}") for number in range(6)]
    read = stored(source)
    assert read[:5] == whole[:5]
    assert read[5:] in (
        [whole[5]],
        [("truncated_shard", "00005")],
        [("missing_caption", "00005")],
        [],
    )


def test_missing_and_empty_shards_are_counted_and_too_many_are_refused(shards):
    write_tar(shards / "s-0003.tar", [])
    (shards / "s-0004.tar").write_bytes(b"")
    pattern = shards / "s-{0000..0005}.tar"
    source = opened(pattern, max_bad_share=0.5)
    assert len(source) == 12
    assert source.about()["missing_shards"] == {"count": 1, "first": str(shards / "s-0005.tar")}
    assert source.about()["empty_shards"] == {"count": 2, "first": str(shards / "s-0003.tar")}
    with pytest.raises(
        ValueError,
        match=r"3 of 6 tars are missing or without a sample .* is .*s-0005\.tar; .* raise",
    ):
        opened(pattern, max_bad_share=0.4)
    with pytest.raises(ValueError, match=r"2 of 2 .* missing, .*s-0008\.tar; correct data.root$"):
        opened(shards / "s-{0008..0009}.tar", max_bad_share=1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.txt", r"no file .*none\.txt"),
        ("sub", "no file in it ends"),
        ("x*.tar", "no file"),
        ("s.tar", "not a tar"),
        ("torn.tar.gz", r"torn\.tar\.gz: cannot be unpacked into .*; copy the file again"),
    ],
)
def test_a_path_that_is_not_a_tar_is_refused(shards, name, message):
    (shards / "sub").mkdir()
    (shards / "s.tar").write_bytes(b"hello" * 300)
    (shards / "torn.tar.gz").write_bytes(gzip.compress(b"hello" * 300)[:-9])
    with pytest.raises(ValueError, match=message):
        opened(shards / name, cache=shards / "cache")
    assert not list(shards.glob("cache/**/*.*"))


def test_compressed_tars_are_unpacked_once_and_read_like_others(shards, tmp_path):
    plain = opened(shards)
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in shards.glob("*.tar"):
        (packed / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    (packed / "s-0002.tar.gz").rename(packed / "s-0002.tgz")
    unpacked = partial(opened, packed, cache=tmp_path / "cache")
    source = unpacked()
    assert stored(source) == stored(plain)
    assert source.digest() == plain.digest()
    copies = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/unpacked/*/*.tar")}
    assert stored(unpacked()) == stored(plain)
    assert copies == {path: path.stat().st_mtime_ns for path in copies}
    source = unpacked()
    for path in copies:  # as a second rank does that unpacks at the same time
        path.unlink()
    unpacked()
    assert stored(source) == stored(plain)
    (packed / "s-0001.tar.gz").chmod(0o400)
    assert unpacked().read(0).where == f"{packed}/s-0000.tar.gz"
    assert set(tmp_path.glob("cache/unpacked/*/*.tar")) == set(copies)
    (packed / "s-0000.tar.gz").write_bytes(gzip.compress((shards / "s-0001.tar").read_bytes()))
    assert unpacked().blocks() == [3, 3, 4]


def test_a_compressed_tar_beside_its_plain_one_is_left_out(shards):
    (shards / "s-0000.tar.gz").write_bytes(b"not read")
    (shards / "s-0001.tgz").write_bytes(b"not read")
    assert len(opened(shards)) == len(opened(shards / "s-*")) == 12
    with pytest.raises(ValueError, match=r"s-0000\.tar is named twice"):
        opened(shards / "s-0000.{tar,tar.gz}")


def test_files_named_like_those_that_are_read_are_listed_as_unread(tmp_path):
    read, unread = ["s-0.tar", "s-1.tar", "a-0-of-2.tar"], ["a-1-of-2.tar", "s-03.tar", "s-2.tar"]
    for name in (*read, *unread, "s-1.tar.gz", "s-3.tgz", "t-3.tar"):
        (tmp_path / name).touch()
    found = shard_names.unread(f"{tmp_path}/{name}" for name in read)
    assert found == [f"{tmp_path}/{name}" for name in unread]
    assert not shard_names.unread(["http://127.0.0.1:1/s-0.tar", f"{tmp_path}/none/s-0.tar"])


def test_a_tar_that_does_not_fit_the_disk_is_not_unpacked(shards, monkeypatch):
    monkeypatch.setattr(tar_files, "free_bytes", lambda folder: 10_239)
    content = (shards / "s-0000.tar").read_bytes()
    (shards / "a.tgz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=rf"a\.tgz.* {len(content):,} bytes .*10,239 are free"):
        opened(shards / "a.tgz", cache=shards / "cache")


@pytest.mark.parametrize("pattern", ["list.txt", "{s-0000,s-0000}.tar"])
def test_a_tar_that_is_named_twice_is_refused(shards, pattern):
    (shards / "list.txt").write_text(f"{shards}/s-0001.tar\n{shards}/s-000*.tar\n")
    with pytest.raises(ValueError, match=r"s-000\d\.tar is named twice"):
        opened(shards / pattern)


def index_of(path):
    return tar_index.index_place(look_up(str(path)), cache=cache_folder(None))


def test_an_index_is_rebuilt_only_when_the_tar_changes(shards):
    beside = shards / "s-0001.tar.index"
    beside.write_bytes(b"of an earlier version")
    files = sorted(shards.iterdir())
    opened(shards)
    assert (sorted(shards.iterdir()), beside.read_bytes()) == (files, b"of an earlier version")
    index = index_of(shards / "s-0001.tar")
    before = index.stat().st_mtime_ns
    digest = opened(shards).digest()
    assert index.stat().st_mtime_ns == before
    write_tar(shards / "s-0001.tar", members(range(20, 26)))
    source = opened(shards)
    assert source.blocks() == [5, 6, 4]
    assert source.digest() != digest
    assert index.exists()  # of another node's tar, perhaps


@pytest.mark.parametrize("spoil", [b"", b"{}", b"\0" * 5000, None])
def test_a_broken_index_is_made_again(shards, spoil):
    expected = stored(opened(shards))
    index = index_of(shards / "s-0001.tar")
    index.write_bytes(index.read_bytes()[:-1] if spoil is None else spoil)
    assert stored(opened(shards)) == expected


def test_remote_tars_are_read_by_range(shards, tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    for path in shards.glob("*.tar"):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    expected = stored(opened(shards))
    for pattern in (
        "memory://bucket/s-{0000..0002}.tar",
        "memory://bucket/",
        "memory://bucket/s-*.tar",
    ):
        source = opened(pattern, cache=tmp_path / "cache")
        assert stored(source) == expected
    assert source.digest() == opened(shards).digest()
    requests, real = [], type(memory).cat_file

    def counted(self, path, start=None, end=None, **keywords):
        content = real(self, path, start=start, end=end, **keywords)
        requests.append(content)
        return content

    monkeypatch.setattr(type(memory), "cat_file", counted)
    monkeypatch.setattr(type(memory), "_open", None)  # a file that is opened is read as a whole
    assert source.read(7).image == jpeg(7)
    (content,) = requests
    assert jpeg(7) in content
    assert b"picture 7" in content
    assert jpeg(6) not in content
    assert b"picture 6" not in content


def test_a_tar_that_changes_under_a_run_stops_it(shards):
    source = opened(shards)
    write_tar(shards / "s-0000.tar", members(range(9)))
    with pytest.raises(ValueError, match="another size now"):
        source.pair(0, 0)


def test_a_byte_that_the_disk_cannot_read_is_one_bad_sample_and_a_lost_tar_stops_the_run(
    shards, monkeypatch
):
    source, error = opened(shards), OSError(errno.EIO, "Input/output error")
    real = os.pread

    def failing(file, size, start):
        if start < 1024:
            raise error
        return real(file, size, start)

    monkeypatch.setattr(os, "pread", failing)
    assert stored(source)[:2] == [("unreadable", "00000"), ("00001", "picture 1")]
    error.errno = errno.ESTALE
    with pytest.raises(ValueError, match="cannot be read now"):
        source.read(0)


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..99999999}",
        "{0..999}{a,{000..999}}",
        "{a..z}{a..z}{a..z}{a..z}{a..z}",
        "{1..9{0..999999}}{a,b}",
        "{0..9999999999999999999999}",
        "{a," * 1500 + "}" * 1500,
        "{}" * 40_000,
    ],
)
def test_a_pattern_of_too_many_names_is_refused_before_they_are_made(pattern):
    with pytest.raises(ValueError, match=r"at most|recursion"):
        shard_names.expand(pattern)
    assert shard_names.expand("{0..2}{a,b{c..d}}.tar")[:2] == ["0a.tar", "0bc.tar"]
