"""Malformed tables, annotations and captions: one line that names the place, or a counted bad
sample.
"""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gestalt.data_modules.corpora import parquet_files
from tests.data_modules.files import opened, pair_or_bad, picture, write_files


def reasons(source):
    """The reason of each bad pair, None for a good one."""
    pairs = [pair_or_bad(source, index) for index in range(len(source))]
    return [getattr(pair, "reason", None) for pair in pairs]


QUOTE = ": a double quote is not closed.*quoted=false$"
LINES = {
    "open to the end": (b'image,caption\n0.jpg,a\n1.jpg,"a dog\n2.jpg,a cat\n', f"3{QUOTE}"),
    "closed by the next": (
        b'image,caption\n0.jpg,a\n1.jpg,"a dog\n2.jpg,"a cat"\n3.jpg,b\n',
        f"3{QUOTE}",
    ),
    "after a value of two lines": (
        b'image,caption\n0.jpg,"a\nb"\n1.jpg,"a dog\n2.jpg,a cat\n',
        f"4{QUOTE}",
    ),
    "UTF-16": ("image,caption\n".encode("utf-16"), "1: its text is UTF-16; save it as UTF-8$"),
    "a spreadsheet's": (b"sep=;\nimage;caption\n", "1: 'sep=;' is no header; delete it$"),
    "no header": (b"0.jpg,a\n", "1, which must name the columns, has .* one of 0.jpg, a$"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_table_that_cannot_be_read_is_refused_by_the_line(tmp_path, name):
    text, message = LINES[name]
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(ValueError, match=rf"a\.csv, line {message}"):
        opened("table", tmp_path / "a.csv")


def test_quotes_within_fields_and_values_of_several_lines_are_read(tmp_path):
    write_files(tmp_path / "p")
    (tmp_path / "a.csv").write_bytes(
        b'image,caption\np/0.jpg,"a\nb"\np/1.jpg,a 5" nail\np/2.jpg,"he said ""no"""\n'
    )
    source = opened("table", tmp_path / "a.csv")
    assert [source.pair(index, 0)[1] for index in range(3)] == ["a\nb", 'a 5" nail', 'he said "no"']


def test_a_row_of_other_length_that_is_not_utf8_is_counted(tmp_path):
    write_files(tmp_path / "p")
    (tmp_path / "caf\udce9.csv").write_bytes(
        b"image,caption,caf\xe9\np/0.jpg,a,x\np/1.jpg,caf\xe9\np/2.jpg,b,y\np/3.jpg,caf\xe9,z\n"
    )
    source = opened("table", tmp_path / "caf\udce9.csv")
    assert reasons(source) == [None, None, "caption_encoding", "broken_row"]
    assert source.read(2).captions == [b"caf\xe9"]


def test_captions_that_are_not_texts_are_bad_samples_and_ids_may_be_texts(tmp_path):
    write_files(tmp_path / "train2017")
    (tmp_path / "annotations").mkdir()
    captions = [5, None, {"en": "a"}, ["a"], "a dog"]
    content = {
        "images": [{"id": str(number), "file_name": f"{number}.jpg"} for number in range(5)],
        "annotations": [
            {"image_id": str(number), "caption": caption} for number, caption in enumerate(captions)
        ],
    }
    (tmp_path / "annotations/captions_train2017.json").write_text(json.dumps(content))
    assert reasons(opened("coco_captions", tmp_path)) == ["missing_caption"] * 4 + [None]


def test_a_corrupt_page_of_parquet_with_checksums_gives_bad_samples(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"image": [picture(number) for number in range(4)], "caption": list("abcd")})
    pq.write_table(
        table,
        path,
        row_group_size=2,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    # the statistics of the page have the image too, without its length
    stored = len(picture(1)).to_bytes(4, "little") + picture(1)
    content[content.index(stored) + 700] ^= 1  # a pixel: the decoder would not notice
    path.write_bytes(content)
    assert reasons(opened("parquet", path)) == ["unreadable", "unreadable", None, None]


def _schema_changed(content):
    content[len(content) - 8 - int.from_bytes(content[-8:-4], "little") + 20] ^= 1
    return content


DAMAGED = {
    "truncated": (lambda content: content[:-1], "it does not end in PAR1.*; copy it again"),
    "no footer": (lambda content: content[:4] + content[-8:], "[^\n]*; copy it again, or write"),
    "a footer that ends the process": (_schema_changed, "its footer is damaged; copy it again"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_parquet_file_is_refused_at_opening_by_name(tmp_path, name):
    damage, message = DAMAGED[name]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"i"], "caption": [["a"]]}), path)
    path.write_bytes(damage(bytearray(path.read_bytes())))
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read: " + message):
        opened("parquet", path)


def test_a_footer_that_states_more_rows_than_values_is_refused(tmp_path):
    nulls = {"image": pa.nulls(100_000, pa.binary()), "caption": pa.nulls(100_000, pa.string())}
    pq.write_table(pa.table(nulls), tmp_path / "a.parquet")
    assert len(opened("parquet", tmp_path / "a.parquet")) == 100_000
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    # the number of rows of the row group, the last of the numbers of 100,000
    content[content.rindex(b"\xc0\x9a\x0c") + 2] = 0x7C
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read: .* rows in a group.*100,000"):
        opened("parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"_READ_FOOTERS": "import os; os.kill(os.getpid(), 9)"}, "ended with status -9"),
        (
            {"_READ_FOOTERS": "import time; time.sleep(60)", "FOOTER_SECONDS": 0},
            "took more than 1 seconds",
        ),
    ],
)
def test_footers_that_cannot_be_checked_are_refused(tmp_path, monkeypatch, changes, failure):
    pq.write_table(pa.table({"image": [b"i"], "caption": ["a"]}), tmp_path / "a.parquet")
    for name, value in changes.items():
        monkeypatch.setattr(parquet_files, name, value)
    with pytest.raises(ValueError, match=rf"from .*a\.parquet on could not .*{failure}"):
        opened("parquet", tmp_path / "a.parquet")


def test_a_gz_table_that_would_fill_the_memory_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("gestalt.data_modules.corpora.table_files.SAFE_BYTES", 2**20)
    text = b"image,caption\n" + b"0.jpg,a\n" * 2**17
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text * 8))
    mend = r"a\.csv\.gz unpacks to more than 1 MiB.*run `gunzip -k .*a\.csv\.gz` and name .*a\.csv$"
    with pytest.raises(ValueError, match=mend):
        opened("table", tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text[: 14 + 8 * 130_000]))
    assert len(opened("table", tmp_path / "b.csv.gz")) == 1


def test_captions_of_parquet_that_are_not_utf8_and_images_that_are_not_bytes_are_bad_samples(
    tmp_path,
):
    broken = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")
    )
    pq.write_table(
        pa.table({"image": [picture(0), picture(1)], "caption": broken}), tmp_path / "a.parquet"
    )
    assert reasons(opened("parquet", tmp_path / "a.parquet")) == [None, "caption_encoding"]
    pq.write_table(pa.table({"image": ["0.jpg"], "caption": ["a"]}), tmp_path / "b.parquet")
    assert reasons(opened("parquet", tmp_path / "b.parquet")) == ["missing_image"]
