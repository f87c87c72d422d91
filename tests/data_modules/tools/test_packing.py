"""Packing keeps bytes, captions and order."""

import tarfile

import pytest

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.tools.packing import pack
from tests.data_modules.files import opened
from tests.data_modules.tools.planted import GOOD_PAIRS, PAIRS, planted


def test_tars_give_the_pairs_that_were_packed(tmp_path):
    source = planted(GOOD_PAIRS)
    assert pack(source, tmp_path / "tars", shards=2) == {"samples": 4}
    packed = opened("tars", tmp_path / "tars", size=16)
    assert list(packed.blocks()) == [2, 2]
    for index in range(3):
        assert packed.read(index).image == source.read(index).image
        for epoch in range(4):
            image, text = packed.pair(index, epoch)
            expected, caption = source.pair(index, epoch)
            assert image.equal(expected)
            assert text == caption
    with pytest.raises(BadSample, match="truncated"):
        packed.pair(3, 0)


def test_packing_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        pack(planted(GOOD_PAIRS), tmp_path / name, shards=3)
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    assert [file.name for file in files[0]] == [
        "pairs-000000.tar",
        "pairs-000001.tar",
        "pairs-000002.tar",
    ]


def test_samples_without_image_bytes_are_not_packed_and_are_counted(tmp_path):
    counts = pack(planted(), tmp_path / "tars", shards=4)
    assert counts == {"samples": len(PAIRS) - 1, "missing_image": 1}
    names = []
    for path in (tmp_path / "tars").iterdir():
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert "000000003.json" not in names
    assert "000000010.png" in names


def test_packing_overwrites_nothing_and_leaves_no_partial_output(tmp_path, monkeypatch):
    (tmp_path / "there/in").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"there exists and is not an empty folder"):
        pack(planted(), tmp_path / "there", shards=1)

    def stops(things):
        yield next(iter(things))
        raise KeyboardInterrupt

    monkeypatch.setattr("gestalt.data_modules.tools.packing.progress", stops)
    with pytest.raises(KeyboardInterrupt):
        pack(planted(), tmp_path / "tars", shards=1)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    for shards in (0, 12):
        with pytest.raises(ValueError, match=f"--shards {shards}: .* choose 1 to 11"):
            pack(planted(), tmp_path / "tars", shards=shards)
