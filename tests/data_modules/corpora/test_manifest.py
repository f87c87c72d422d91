"""Manifests: what is known to be bad is left out, and nothing else moves."""

import json
import os

import numpy as np
import pytest
import torch

from gestalt.data_modules.corpora.manifest import without_known_bad, write_manifest
from gestalt.data_modules.order import EndlessOrder
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from tests.data_modules.files import opened
from tests.data_modules.tar_files import write_shards

BAD = [0, 3, 4, 9, 11]


class Shards(Source):
    """Twelve samples in four shards, some of them bad."""

    def __init__(self, digest="shards"):
        self._digest = digest

    def __len__(self):
        return 12

    def blocks(self):
        return [5, 0, 4, 3]

    def digest(self):
        return self._digest

    def pair(self, index, epoch):
        if index in BAD:
            raise BadSample("zero_bytes", where="s", key=str(index))
        return torch.full((3, 1, 1), index, dtype=torch.uint8), f"{epoch}/{index}"


def written(folder, *, bad=BAD, digest="shards", **counted):
    path = folder / "manifest.json"
    sha256 = write_manifest(
        path,
        source=Shards(digest),
        bad=[(index, "zero_bytes", "s", str(index)) for index in bad],
        counted={"bytes": 7, **counted},
    )
    return path, sha256


@pytest.mark.parametrize(
    ("bad", "blocks"),
    [(BAD, [2, 0, 4, 1]), ([], [5, 0, 4, 3]), (list(range(5)), [0, 0, 4, 3]), ([11], [5, 0, 4, 2])],
)
def test_samples_outside_the_manifest_keep_their_order_and_shards(tmp_path, bad, blocks):
    source = without_known_bad(Shards(), written(tmp_path, bad=bad)[0])
    assert [source.original(index) for index in range(len(source))] == [
        index for index in range(12) if index not in bad
    ]
    assert source.blocks() == blocks
    assert EndlessOrder(source.blocks(), seed=0, window=2).length == len(source)


def test_the_manifest_hash_is_part_of_the_digest_and_of_about(tmp_path):
    shared = {"shared_images": {"voc": {"shared": 2}}}
    path, sha256 = written(tmp_path, **shared)
    source = without_known_bad(Shards(), path)
    assert source.about() == {"manifest_sha256": sha256, "left_out_by_manifest": 5, **shared}
    (tmp_path / "other").mkdir()
    assert (
        without_known_bad(Shards(), written(tmp_path / "other", bad=BAD[1:])[0]).digest()
        != source.digest()
        != Shards().digest()
    )


def test_a_manifest_for_a_mixture_is_refused(tmp_path):
    source = Shards()
    source.orders_itself = True
    with pytest.raises(ValueError, match="a mixture has no manifest; give one to each part"):
        without_known_bad(source, written(tmp_path)[0])


def test_a_manifest_of_other_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="made of 12 samples with digest other"):
        without_known_bad(Shards(), written(tmp_path, digest="other")[0])


def test_the_uids_of_a_list_keep_their_pairs(tmp_path):
    root, path = write_shards(tmp_path / "tars", [5, 4]), tmp_path / "uids.npy"
    halves = sorted((number >> 64, number % 2**64) for number in (0, 3, 5, 8, 4 << 64))
    np.save(path, np.array(halves, "u8,u8"))
    source = opened("tars", root, include=str(path))
    assert [source.caption(index, 0) for index in range(len(source))] == [
        f"picture {number}" for number in (0, 3, 5, 8)
    ]
    assert source.blocks() == [2, 2]
    assert source.about()["left_out_by_include"] == 5
    np.save(path, np.array([(0, 99)], "u8,u8"))
    with pytest.raises(ValueError, match=r"include=.*none of 9 pairs, of which .* have a uid"):
        opened("tars", root, include=str(path))
    np.save(path, np.zeros(0, "u8,u8"))
    empty = path.read_bytes()
    for content in (empty, empty.replace(b"u8", b"f8"), b"", b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not uids of DataComp"):
            opened("tars", root, include=str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        opened("tars", root, include=str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"bad": [[3, "zero_bytes", "s", "3"], [1, "zero_bytes", "s", "1"]]},
        {"bad": [[12, "zero_bytes", "s", "12"]]},
        {"bad": [[1, "ugly", "s", "1"]]},
    ],
)
def test_an_invalid_or_missing_manifest_is_refused(tmp_path, change):
    path, _ = written(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"data\.manifest=.*manifest\.json"):
        without_known_bad(Shards(), path)
    with pytest.raises(ValueError, match="No such file"):
        without_known_bad(Shards(), tmp_path / "none.json")
