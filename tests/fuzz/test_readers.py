"""Readers of data under any bytes; examples are drawn alike in every run, and GESTALT_FUZZ_EXAMPLES
sets their number.
"""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.pixels.decoding import shown_size
from tests.data_modules.files import encoded, picture, random_resized_crop, write_files
from tests.data_modules.tar_files import header_block, jpeg, members, write_tar
from tests.fuzz.law import FUZZ, held, json_values, mutated, read_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with six pictures in the layout of several sources."""
    root = tmp_path_factory.mktemp("fuzz")
    write_files(root / "train2017")
    write_files(root / "Images")
    (root / "annotations").mkdir()
    (root / "Flickr_8k.trainImages.txt").write_text("0.jpg\n1.jpg\n")
    return root


@pytest.fixture(scope="module")
def a_tar(tmp_path_factory):
    root = tmp_path_factory.mktemp("tar")
    long = [
        ("d" * 120 + "/" + "e" * 60 + ".jpg", jpeg(1)),
        ("d" * 120 + "/" + "e" * 60 + ".txt", b"one"),
    ]
    return [
        write_tar(root / f"{form}.tar", [*members(range(2)), *long], format=form).read_bytes()
        for form in (0, 1, 2)
    ]


SIZES = (
    st.integers(0, 2000)
    | st.sampled_from((-1, 2**31, 2**33, 2**62))
    | st.binary(min_size=12, max_size=12)
)
KINDS = st.sampled_from(
    (b"0", b"0", b"\0", b"1", b"2", b"5", b"6", b"L", b"K", b"x", b"g", b"X", b"S", b"D", b"\xff")
)
NAMES = st.sampled_from(
    ("1.jpg", "1.txt", "1.json", "2.jpg", "2.txt", "../3.jpg", "/4.jpg", "5")
) | st.text(max_size=20)
CONTENTS = st.sampled_from(
    (
        jpeg(1),
        b"one",
        b'{"caption": ["a", "b"]}',
        b"12 path=a.b\n",
        b"20 size=99999999999\n",
        b"9 size=-1\n",
    )
)


@st.composite
def blocks(draw):
    """A tar of headers with any type and size, some right."""
    parts = []
    for _ in range(draw(st.integers(1, 8))):
        content = draw(CONTENTS | st.binary(max_size=600))
        size = draw(st.just(len(content)) | SIZES)
        parts += [
            header_block(draw(NAMES), size, kind=draw(KINDS)),
            content,
            bytes(-len(content) % 512),
        ]
    return b"".join(parts) + bytes(draw(st.sampled_from((0, 1024))))


@FUZZ
@given(data=st.data())
def test_any_tar(folder, a_tar, data):
    (folder / "a.tar").write_bytes(data.draw(mutated(*a_tar) | blocks()))
    column = data.draw(st.sampled_from((None, "txt", "caption", "alt")))
    read_pairs("tars", folder / "a.tar", captions=CaptionRule(column=column))


@FUZZ
@given(fields=json_values("caption", "a"))
def test_any_record_of_a_tar(folder, fields):
    write_tar(folder / "c.tar", [("1.jpg", jpeg(1)), ("1.json", json.dumps(fields).encode())])
    read_pairs("tars", folder / "c.tar")


ROW = 'image,caption\ntrain2017/0.jpg,a dog\ntrain2017/1.jpg,"a ""cat"", red"\n'
CHARACTERS = st.text(st.sampled_from("image,caption\n\r\t\"'\0\ufeff/. \udcff"), max_size=80)


@FUZZ
@given(data=st.data(), quoted=st.booleans())
def test_any_table(folder, data, quoted):
    text = data.draw(
        mutated(ROW.encode())
        | CHARACTERS.map(lambda text: (ROW + text).encode("utf-8", "surrogateescape"))
    )
    (folder / "a.csv").write_bytes(text)
    read_pairs("table", folder / "a.csv", quoted=quoted)


@FUZZ
@given(content=mutated(gzip.compress(ROW.encode(), mtime=0)))
def test_any_compressed_table(folder, content):
    (folder / "a.tsv.gz").write_bytes(content)
    read_pairs("table", folder / "a.tsv.gz")


FINE = {
    "images": [{"id": 1, "file_name": "0.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a"}],
}


@FUZZ
@given(data=st.data())
def test_any_annotations(folder, data):
    odd = json_values("images", "annotations", "id", "image_id", "file_name", "caption", "0.jpg")
    shaped = st.fixed_dictionaries(
        {"images": st.lists(odd, max_size=3) | odd, "annotations": st.lists(odd, max_size=3) | odd}
    )
    entries = st.fixed_dictionaries(
        {
            "images": st.lists(st.fixed_dictionaries({"id": odd, "file_name": odd}), max_size=4),
            "annotations": st.lists(
                st.fixed_dictionaries({"image_id": odd, "caption": odd}), max_size=4
            ),
        }
    )
    content = data.draw(
        mutated(json.dumps(FINE).encode())
        | (shaped | entries | odd).map(lambda value: json.dumps(value).encode())
    )
    (folder / "annotations/captions_train2017.json").write_bytes(content)
    read_pairs("coco_captions", folder)


@FUZZ
@given(
    content=mutated(b'image,caption\n0.jpg,a\n1.jpg,"b, c"\n')
    | CHARACTERS.map(lambda text: text.encode("utf-8", "surrogateescape"))
)
def test_any_captions_of_flickr(folder, content):
    (folder / "captions.txt").write_bytes(content)
    read_pairs("flickr", folder)


def _parquet():
    images = pa.array([{"bytes": picture(number), "path": None} for number in range(4)])
    files = []
    for rows, keywords in (
        (
            pa.table({"image": images, "caption": [["a", "b"], ["c"], [], None]}),
            {"write_page_checksum": True, "row_group_size": 2},
        ),
        (pa.table({"jpg": [picture(0), None], "text": ["a", "b"]}), {"compression": "none"}),
    ):
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, **keywords)
        files.append(buffer.getvalue())
    return files


PARQUET = _parquet()


@pytest.mark.slow  # each example starts a process
@FUZZ
@given(content=mutated(*PARQUET, *(content[-2000:] for content in PARQUET)))
def test_any_parquet(folder, content):
    (folder / "a.parquet").write_bytes(content)
    read_pairs("parquet", folder / "a.parquet")


def _footer(content):
    """Start and end of a file's footer; its length and four letters follow."""
    return slice(-8 - int.from_bytes(content[-8:-4], "little"), -8)


@pytest.mark.slow
@FUZZ
@given(
    content=st.sampled_from(PARQUET),
    footer=mutated(*(content[_footer(content)] for content in PARQUET)),
)
def test_any_footer_of_parquet(folder, content, footer):
    (folder / "b.parquet").write_bytes(
        content[: _footer(content).start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    )
    read_pairs("parquet", folder / "b.parquet")


def _images():
    grey, deep = Image.new("L", (40, 30), 7), Image.new("I;16", (40, 30), 900)
    forms = [
        (Image.new("RGB", (40, 30), "red"), form)
        for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
    ]
    forms += [
        (grey, "PNG"),
        (deep, "PNG"),
        (deep, "TIFF"),
        (Image.new("RGBA", (40, 30)), "PNG"),
        (Image.new("CMYK", (40, 30)), "JPEG"),
    ]
    return [encoded(image, form) for image, form in forms]


@FUZZ
@given(content=mutated(*_images()))
def test_any_image(content):
    with held():
        shown_size(content)
    with held():
        random_resized_crop(content, 8, seed=0, epoch=0, index=0)
