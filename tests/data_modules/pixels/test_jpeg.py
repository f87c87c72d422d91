"""The fast JPEG decoder: bit-identical to Pillow; unusual files are left to Pillow."""

import io

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from gestalt.data_modules.pixels import decoding
from gestalt.data_modules.pixels.decoding import decode_jpeg, read_frame
from gestalt.data_modules.pixels.photographs import to_tensor
from tests.data_modules.files import decode_crop, encoded
from tests.data_modules.pixels.test_decoding import everything, smooth

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def pillows(content, divisor):
    image = Image.open(io.BytesIO(content))
    image.draft(None, (image.width // divisor, image.height // divisor))
    return np.asarray(image.convert("RGB"))


def with_segment(content, marker, payload):
    """The file with one more segment behind its start."""
    return (
        content[:2]
        + bytes([0xFF, marker])
        + (len(payload) + 2).to_bytes(2, "big")
        + payload
        + content[2:]
    )


PHOTO = smooth(203, 150)
KINDS = {
    "4:4:4": encoded(PHOTO, "JPEG", subsampling=0),
    "4:2:2": encoded(PHOTO, "JPEG", subsampling=1),
    "4:2:0": encoded(PHOTO, "JPEG", subsampling=2, quality=40),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "restart markers": encoded(PHOTO, "JPEG", restart_marker_rows=1),
    "grey": encoded(PHOTO.convert("L"), "JPEG"),
    "stored as RGB": encoded(PHOTO, "JPEG", keep_rgb=True),
    "with a profile": encoded(PHOTO, "JPEG", icc_profile=b"not a profile" * 9000),
    "4:4:0": simplejpeg.encode_jpeg(np.asarray(PHOTO), colorspace="RGB", colorsubsampling="440"),
    "4:1:1": simplejpeg.encode_jpeg(np.asarray(PHOTO), colorspace="RGB", colorsubsampling="411"),
}


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_decoded_pixels_equal_those_of_pillow(kind, divisor):
    frame = read_frame(KINDS[kind])
    assert frame == (203, 150, False)
    assert np.array_equal(
        decode_jpeg(KINDS[kind], frame, divisor=divisor), pillows(KINDS[kind], divisor)
    )


@pytest.mark.parametrize(("size", "divisor"), [(16, 8), (50, 2), (101, 1), (150, 1), (224, 1)])
def test_a_crop_is_resized_as_pillow_resizes_it(size, divisor):
    """The two round their weights differently, in each direction; neither looks beyond the crop."""
    box = 8, 16, 200, 144
    crop = decode_crop(KINDS["4:2:0"], size, choose=lambda width, height: box)
    cut = Image.fromarray(pillows(KINDS["4:2:0"], divisor)).crop([edge // divisor for edge in box])
    difference = (
        crop.int() - to_tensor(cut.resize((size, size), Image.Resampling.BICUBIC)).int()
    ).abs()
    assert difference.max() <= 2
    assert difference.float().mean() < 0.05


LEFT_OUT = {
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "cut in its head": KINDS["4:2:0"][:40],
    "12 bits": KINDS["4:4:4"].replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "lossless": KINDS["4:4:4"].replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"),
    "two frames": KINDS["4:4:4"].replace(
        b"\xff\xc0", KINDS["4:4:4"][KINDS["4:4:4"].index(b"\xff\xc0") :][:19] + b"\xff\xc0"
    ),
    "thousands of comments": KINDS["4:4:4"][:2] + b"\xff\xfe\0\2" * 5000 + KINDS["4:4:4"][2:],
    "a segment without its mark": KINDS["4:4:4"].replace(b"\xff\xdb", b"\x7f\xdb"),
    "another format": encoded(PHOTO, "PNG"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_an_unusual_file_is_left_to_pillow(kind, monkeypatch):
    assert read_frame(LEFT_OUT[kind]) is None
    monkeypatch.setattr(decoding, "_decode_by_pillow", lambda content, size, *, choose: "Pillow's")
    assert decode_crop(LEFT_OUT[kind], 16, choose=everything) == "Pillow's"


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (0xE1, XMP),
        (0xE1, b"Exif\0\0MM"),
        (0xE2, b"MPF\0MM"),
        (0xED, b"Photoshop 3.0\0"),
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe"),
    ],
)
def test_a_segment_that_pillow_reads_is_left_to_its_reader(marker, payload):
    assert read_frame(with_segment(KINDS["4:2:0"], marker, payload)).tagged


def test_a_damaged_file_is_read_as_pillow_reads_it_with_the_box_that_was_drawn():
    content = bytearray(KINDS["4:2:0"])
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    boxes = iter([(10.5, 10.25, 190.0, 140.0)])
    crop = decode_crop(bytes(content), 32, choose=lambda width, height: next(boxes))
    assert decode_jpeg(bytes(content), read_frame(content), divisor=1) is None
    assert crop.equal(
        decoding._decode_by_pillow(
            bytes(content), 32, choose=lambda width, height: (10.5, 10.25, 190.0, 140.0)
        )
    )


def test_a_crop_is_not_overwritten_by_the_next_decode():
    for size in (16, 203):
        crop = decode_crop(
            KINDS["4:4:4"], size, choose=lambda width, height, size=size: (0, 0, size, 150)
        )
        kept = crop.clone()
        decode_crop(encoded(Image.new("RGB", (203, 150)), "JPEG"), size, choose=everything)
        assert crop.equal(kept)
    square = encoded(smooth(64, 64), "JPEG")
    crop = decode_crop(square, 64, choose=everything)
    assert crop.equal(torch.from_numpy(pillows(square, 1).copy()).permute(2, 0, 1))
    decode_crop(encoded(Image.new("RGB", (64, 64)), "JPEG"), 64, choose=everything)
    assert crop.float().mean() > 1
