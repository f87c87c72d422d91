"""Sources of files: the same six pictures and captions in every kind of them, and what each kind
may hold that is bad.
"""

import csv
import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.keys import Captions
from gestalt.data_modules.sources import open_source
from tests.data_modules import files
from tests.data_modules.files import CAPTIONS, NUMBERS, picture, write_files, write_flickr
from tests.data_modules.tar_files import write_tar


def parquet(root):
    """Three row groups in two files, the image as Hugging Face stores it."""
    images = pa.array([{"bytes": picture(number), "path": f"{number}.jpg"} for number in NUMBERS])
    table = pa.table({"image": images, "caption": CAPTIONS, "url": [*map(str, NUMBERS)]})
    (root / "more").mkdir()
    pq.write_table(table[:4], root / "a.parquet", row_group_size=3)
    pq.write_table(table[4:], root / "more/b.parquet")
    return {"root": str(root)}


def table(root):
    """A row for each caption, some with commas and line ends."""
    write_files(root / "pictures", content=picture)
    with (root / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["caption", "path"])
        for number in NUMBERS:
            rows.writerows([caption, f"pictures/{number}.jpg"] for caption in CAPTIONS[number])
    return {"root": str(root / "pairs.csv")}


def coco_captions(root):
    write_files(root / "train2017", content=picture)
    listed = [{"id": 10 * number, "file_name": f"{number}.jpg"} for number in NUMBERS]
    annotations = [
        {"id": 7, "image_id": 10 * number, "caption": caption}
        for number in NUMBERS
        for caption in CAPTIONS[number]
    ]
    (root / "annotations").mkdir()
    (root / "annotations/captions_train2017.json").write_text(
        json.dumps({"images": listed, "annotations": annotations})
    )
    return {"root": str(root)}


def flickr(root):
    write_flickr(root, content=picture)
    return {"root": str(root)}


def on_disk(root, rows):
    """A folder that ``save_to_disk`` makes."""
    rows.save_to_disk(str(root / "set"))
    return {"root": str(root / "set")}


def hub(root):
    images = [{"bytes": picture(number), "path": None} for number in NUMBERS]
    text = datasets.Value("string")
    kinds = {"picture": datasets.Image(), "text": datasets.List(text), "url": text}
    columns = {"picture": images, "text": CAPTIONS, "url": [*map(str, NUMBERS)]}
    features = datasets.Features(kinds)
    return on_disk(root, datasets.Dataset.from_dict(columns, features=features))


def hub_stream(root):
    """The parquet files, read in sequence."""
    return {**parquet(root), "streaming": True, "limit": 6}


KINDS = {
    "parquet": parquet,
    "table": table,
    "coco_captions": coco_captions,
    "flickr": flickr,
    "hub": hub,
    "hub_stream": hub_stream,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    """Put the copies that ``datasets`` makes into a temporary folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def opened(kind, root, **options):
    options = {"size": 16, **KINDS[kind](root), **options}
    return files.opened(kind.removesuffix("_stream"), **options)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_stored_bytes_and_captions_equal_those_written(kind, tmp_path):
    source = opened(kind, tmp_path)
    assert len(source) == sum(source.blocks()) == 6
    for number in NUMBERS:
        stored = source.read(number)
        assert stored.image == picture(number)
        assert [
            text.decode() if isinstance(text, bytes) else text for text in stored.captions
        ] == CAPTIONS[number]


def test_every_kind_follows_the_rule_for_captions(kind, tmp_path):
    source = opened(kind, tmp_path, captions=CaptionRule(choice="first", template="a photo: {}"))
    assert source.pair(2, 5)[1] == "a photo: two birds"


def test_every_kind_takes_captions_from_a_table(kind, tmp_path):
    by = {"flickr": "key", "coco_captions": "path", "table": "path"}.get(kind, "url")
    form = {"url": "{}", "key": "{}.jpg"}.get(
        by, "pictures/{}.jpg" if kind == "table" else "{}.jpg"
    )
    lines = [f"{form.format(number)},new {number}\n" for number in (5, 3, 0, 1, 4)]
    (tmp_path / "new.csv").write_text("".join(["id,caption\n", *lines]))
    table = Captions(str(tmp_path / "new.csv"), {by: "id"})
    rule = CaptionRule(table=table, weights={"caption": 1, "own": 0})
    (tmp_path / "data").mkdir()
    source = opened(kind, tmp_path / "data", captions=rule)
    assert [source.caption(number, 0) for number in (0, 1, 3, 4, 5)] == [
        f"new {number}" for number in (0, 1, 3, 4, 5)
    ]
    assert source.caption(2, 0) in CAPTIONS[2]


def test_the_digest_does_not_depend_on_the_location(kind, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert opened(kind, tmp_path / "one").digest() == opened(kind, tmp_path / "two").digest()


def reason(source, index):
    return files.pair_or_bad(source, index).reason


def test_a_bad_image_has_a_reason_and_other_images_stay_readable(kind, tmp_path, monkeypatch):
    spoiled = {2: b"", 4: picture(4)[:500]}
    monkeypatch.setitem(
        globals(), "picture", lambda number, whole=picture: spoiled.get(number, whole(number))
    )
    source = opened(kind, tmp_path)
    assert reason(source, 2) == "zero_bytes"
    assert reason(source, 4) == "truncated"
    for number in (0, 1, 3, 5):
        source.pair(number, 0)


def test_a_window_of_row_groups_that_cannot_be_kept_is_refused(tmp_path, monkeypatch):
    where = parquet(tmp_path)
    monkeypatch.setattr("gestalt.data_modules.sources.parquet.CACHED", 3 * len(picture(0)) + 1000)
    with pytest.raises(
        ValueError, match=r"data\.window_shards=2: .* choose 1, or pack them into tars"
    ):
        files.opened("parquet", window=2, **where)
    assert len(files.opened("parquet", window=1, **where)) == 6


def test_a_column_of_plain_bytes_is_read_and_a_row_without_an_image_is_bad(tmp_path):
    pq.write_table(
        pa.table({"jpg": [picture(0), None], "text": ["a dog", "nothing"]}), tmp_path / "a.parquet"
    )
    source = files.opened("parquet", tmp_path / "a.parquet")
    assert source.pair(0, 0)[1] == "a dog"
    assert reason(source, 1) == "missing_image"


def written(root, text, name="pairs.csv"):
    write_files(root / "pictures", content=picture)
    (root / name).write_bytes(text)
    return files.opened("table", root / name)


def test_bad_rows_of_a_table_are_bad_samples_and_the_others_stay(tmp_path):
    rows = (
        b"path\tcaption\npictures/0.jpg\ta dog\npictures/1.jpg\n\tnothing\n"
        b"pictures/2.jpg\tb\tc\npictures/3.jpg\t\xff\npictures/9.jpg\tgone\n"
        b"pictures/4.jpg\t\npictures/4.jpg\tlater\n"
    )
    source = written(tmp_path, rows, name="pairs.tsv")
    assert source.pair(0, 0)[1] == "a dog"
    assert [reason(source, index) for index in (1, 2)] == ["caption_encoding", "missing_image"]
    assert source.pair(3, 0)[1] == "later"
    assert sorted(reason(source, index) for index in (4, 5, 6)) == [
        "broken_row",
        "broken_row",
        "missing_image",
    ]
    assert len(source) == 7
    assert files.pair_or_bad(source, 6).key == "row 3"


def test_a_table_may_be_packed_and_separated_by_anything(tmp_path):
    write_files(tmp_path / "pictures")
    (tmp_path / "pairs.txt").write_text("file|caption\n0.jpg|a dog\n")
    (tmp_path / "pairs.csv.gz").write_bytes(gzip.compress(b"file,caption\n0.jpg,a dog\n"))
    (tmp_path / "quotes.tsv").write_text('file\tcaption\n0.jpg\ta 5" nail\n')
    for name, options, caption in (
        ("pairs.txt", {"separator": "|"}, "a dog"),
        ("pairs.csv.gz", {}, "a dog"),
        ("quotes.tsv", {"quoted": False}, 'a 5" nail'),
    ):
        images = str(tmp_path / "pictures")
        source = files.opened("table", tmp_path / name, images=images, **options)
        assert source.pair(0, 0)[1] == caption


def test_images_without_captions_and_captions_without_images_are_bad_samples(tmp_path):
    coco_captions(tmp_path)
    path = tmp_path / "annotations/captions_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [{"image_id": 99, "caption": "lost"}, *content["annotations"][2:]]
    path.write_text(json.dumps(content))
    source = files.opened("coco_captions", tmp_path)
    assert (len(source), reason(source, 0), reason(source, 6)) == (
        7,
        "missing_caption",
        "missing_image",
    )


def test_a_stream_is_read_in_sequence_and_begins_anew_for_a_lower_index(tmp_path):
    source = opened("hub_stream", tmp_path)
    assert source.in_sequence
    for number in (0, 3, 5, 1):
        assert source.read(number).image == picture(number)


def test_a_stream_shorter_than_its_limit_raises(tmp_path):
    source = opened("hub_stream", tmp_path, limit=8)
    with pytest.raises(ValueError, match=r"ends before row 7, but data\.limit=8"):
        source.pair(7, 0)


def hub_validation(root):
    columns = {"image": [picture(0)], "text": ["a"]}
    return on_disk(root, datasets.Dataset.from_dict(columns, split="validation"))


def hub_splits(root):
    rows = datasets.Dataset.from_dict({"image": [picture(0)], "text": ["a"]})
    return on_disk(root, datasets.DatasetDict({"train": rows, "test": rows}))


MISTAKES = [
    ("parquet", {}, lambda root: {"root": str(root / "nowhere")}, "no file at .*nowhere"),
    ("parquet", {}, lambda root: {"root": "reference://"}, "^reference://: fsspec cannot open it"),
    ("parquet", {}, lambda root: {"root": "https:///x"}, "^https:///x: names no server"),
    (
        "parquet",
        {"captions": CaptionRule(column="alt")},
        parquet,
        r"data\.caption=alt: .*no column called alt",
    ),
    ("table", {"separator": "::"}, table, "choose one character"),
    ("table", {"image_column": "url"}, table, "image_column=url: .* choose one of caption, path"),
    (
        "table",
        {},
        lambda root: {"root": _spoiled(root / "a.txt")},
        r"neither in \.csv nor in \.tsv",
    ),
    ("coco_captions", {"split": "val2017"}, coco_captions, "no folder .*val2017"),
    ("hub", {"split": "val"}, lambda root: {**parquet(root)}, "cannot be opened: .*val"),
    ("hub", {"streaming": True}, hub, "cannot be streamed; set data.options.streaming=false"),
    (
        "hub",
        {},
        hub_validation,
        r"no split train; choose one by data\.options\.split=NAME of validation",
    ),
    (
        "hub",
        {"split": "val"},
        hub_splits,
        r"no split val; choose one by data\.options\.split=NAME of train, test",
    ),
    ("hub", {}, lambda root: {"root": _tar_of_nothing(root)}, "hub: .* cannot be opened"),
    ("hub", {"streaming": True}, parquet, r"is unknown; set data\.limit to the number of rows"),
]


def _tar_of_nothing(root):
    write_tar(root / "a.tar", [("a.image.jpg", picture(0)), ("b.caption.txt", b"x")])
    return str(root)


def _spoiled(path):
    path.write_text("not, a table\n")
    return str(path)


@pytest.mark.parametrize(("kind", "options", "write", "message"), MISTAKES)
def test_a_source_that_cannot_be_opened_is_refused_with_an_explanation(
    kind, options, write, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        files.opened(kind, **{**write(tmp_path), **options})


@pytest.mark.parametrize("kind", ["parquet", "table", "coco_captions", "hub"])
def test_a_missing_root_is_named(kind):
    with pytest.raises(ValueError, match=rf"{kind} needs data\.root"):
        open_source(kind, root=None, size=8, seed=0, limit=None)
