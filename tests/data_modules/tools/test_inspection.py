"""Inspection finds exactly the planted faults; packing keeps bytes, captions and order; a sheet
shows what a batch holds.
"""

import tarfile

import numpy as np
import pytest

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.corpora.stores import Store
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.tools.inspection import contact_sheet, inspect, pack
from tests.data_modules.files import opened, picture


class Planted(Store):
    """A store of given (image, captions), in shards of three."""

    def __init__(self, pairs):
        self._pairs = pairs

    def __len__(self):
        return len(self._pairs)

    def blocks(self):
        return [min(3, len(self) - start) for start in range(0, len(self), 3)]

    def digest(self):
        return "0123456789abcdef"

    def read(self, index):
        image, captions = self._pairs[index]
        if image is None:
            raise BadSample("missing_image", where="a shard", key=f"key {index}")
        return StoredPair("a shard", f"key {index}", image, captions)


PAIRS = [
    (picture(0), "a dog"),
    (picture(1)[:300], "cut short"),
    (picture(0), ["a dog", "a brown dog"]),
    (None, "nothing to see"),
    (picture(2, side=(80, 20)), ["", "usable"]),
    (b"", "nothing"),
    (picture(3), None),
    (picture(4), ["", " "]),
    (picture(5), b"\xff\xfe"),
    (picture(6)[:200], "cut short too"),
    (picture(7, form="PNG"), "a cat"),
]
BAD = {
    1: "truncated",
    3: "missing_image",
    5: "zero_bytes",
    6: "missing_caption",
    7: "empty_caption",
    8: "caption_encoding",
    9: "truncated",
}


def planted(pairs=PAIRS, **rule):
    return StoredPairs(Planted(pairs), size=16, seed=0, rule=CaptionRule(**rule))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_planted_fault_is_found_with_its_reason(workers):
    bad, counted = inspect(planted(), workers=workers)
    assert {index: reason for index, reason, _, _ in bad} == BAD
    assert bad[0] == (1, "truncated", "a shard", "key 1")
    assert counted["images"]["width"] == {"least": 40, "median": 40, "most": 80}
    assert counted["captions"]["usable"] == 5
    assert counted["captions"]["unusable_beside_usable"] == 1
    assert counted["captions"]["words"]["most"] == 3
    assert counted["duplicates"] == {"images": {"repeats": 1}, "captions": {"repeats": 1}}


def test_inspection_flags_exactly_the_samples_that_training_cannot_read():
    source = planted()
    inspected = {index: reason for index, reason, _, _ in inspect(source, workers=0)[0]}
    for index in range(len(source)):
        reasons = set()
        for epoch in range(8):
            try:
                source.pair(index, epoch)
                reasons.add(None)
            except BadSample as bad:
                reasons.add(bad.reason)
        assert reasons == {inspected.get(index)}


GOOD_PAIRS = [
    (picture(0), "a dog"),
    (picture(1, form="PNG"), ["two birds", "birds"]),
    (picture(2, form="WEBP"), ["ä cat"]),
    (picture(3)[:200], "cut"),
]


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
    (tmp_path / "there" / "in").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"there exists and is not an empty folder"):
        pack(planted(), tmp_path / "there", shards=1)

    def stops(things):
        yield next(iter(things))
        raise KeyboardInterrupt

    monkeypatch.setattr("gestalt.data_modules.tools.inspection.progress", stops)
    with pytest.raises(KeyboardInterrupt):
        pack(planted(), tmp_path / "tars", shards=1)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    for shards in (0, 12):
        with pytest.raises(ValueError, match=f"--shards {shards}: .* choose 1 to 11"):
            pack(planted(), tmp_path / "tars", shards=shards)


def test_a_contact_sheet_shows_every_valid_image_and_marks_bad_ones():
    data = ImageTextDataModule(planted(GOOD_PAIRS), size=16, batch_size=4, workers=0, seed=0)
    batch = next(iter(data.train_dataloader()))
    sheet = contact_sheet(batch, title="one", columns=3)
    sheet.canvas.draw()
    assert len(sheet.axes) == 4
    for number, axes in enumerate(sheet.axes):
        if batch["valid"][number]:
            (shown,) = axes.images
            assert np.array_equal(
                shown.get_array(), batch["image"][number].permute(1, 2, 0).numpy()
            )
            assert axes.get_title().split("\n")[0] == batch["text"][number]
        else:
            assert not axes.images
            assert axes.get_title().startswith("truncated: a shard")
