"""The digest of data covers the bytes of its captions, however they were rewritten, and the digests
of present layouts are frozen.
"""

import json
import os
import re

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data_modules.files import opened, write_files, write_flickr
from tests.data_modules.tar_files import write_tar


def image(number):
    """Bytes that no version of a library changes: a digest needs no picture."""
    return bytes([number]) * (100 + number)


def tars(root, word):
    root.mkdir(exist_ok=True)
    write_tar(
        root / "a.tar",
        [
            ("1.jpg", image(1)),
            ("1.txt", b"a " + word),
            ("2.jpg", image(2)),
            ("2.json", b'{"caption": "%s"}' % word),
        ],
    )


def parquet(root, word):
    root.mkdir(exist_ok=True)
    rows = pa.table(
        {
            "image": [image(number) for number in range(3)],
            "caption": [["a", "b"], ["c", f"a {word.decode()}"], ["d"]],
        }
    )
    pq.write_table(rows, root / "a.parquet", write_statistics=False)


def table(root, word):
    root.mkdir(exist_ok=True)
    (root / "a.csv").write_bytes(b"image,caption\n1.jpg,a %s\n" % word)


def coco_captions(root, word):
    if not root.exists():
        write_files(root / "train2017", content=image)
        (root / "annotations").mkdir()
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"image_id": 1, "caption": f"a {word.decode()}"}],
    }
    (root / "annotations/captions_train2017.json").write_text(json.dumps(content))


def flickr(root, word):
    if not root.exists():
        write_flickr(root, content=image)
    text = (root / "captions.txt").read_bytes()
    (root / "captions.txt").write_bytes(re.sub(rb"two \w+", b"two " + word, text))


def hub(root, word):
    # not among the rows that were hashed whole
    captions = [f"a {word.decode()}" if number == 70 else "x" for number in range(200)]
    rows = datasets.Dataset.from_dict({"image": [image(0)] * 200, "text": captions})
    rows.save_to_disk(str(root))


KINDS = {
    "tars": tars,
    "parquet": parquet,
    "table": table,
    "coco_captions": coco_captions,
    "flickr": flickr,
    "hub": hub,
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    return request.param


DIGESTS = {
    "tars": "e44d4219f4bca623",
    "parquet": "4182291aeb154361",
    "table": "e6b004ad08d2a40e",
    "coco_captions": "37773b9ecb823302",
    "flickr": "84f34a328aead2ee",
    "hub": "cee10dea7800fd91",
}


@pytest.mark.parametrize("same_time", [False, True])
def test_captions_rewritten_in_place_with_the_same_size_change_the_digest(
    kind, tmp_path, same_time
):
    root = tmp_path / "data"
    place = root / "a.csv" if kind == "table" else root
    KINDS[kind](root, b"cats")
    assert opened(kind, place).digest() == DIGESTS[kind]
    states = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    KINDS[kind](root, b"dogs")
    for path, state in states.items():
        if same_time and path.exists():
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert opened(kind, place).digest() != DIGESTS[kind]
    KINDS[kind](root, b"cats")
    assert opened(kind, place).digest() == DIGESTS[kind]
