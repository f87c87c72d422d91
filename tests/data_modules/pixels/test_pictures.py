"""Pictures as a user hands them over: every kind gives the same pixels, and anything else is
refused in one line.
"""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gestalt.data_modules.pixels.pictures import read_picture, read_pictures
from tests.data_modules.files import decode_crop, encoded, noise


def expected(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


PIXELS = np.array(noise(14, 9))
CHANNELS_FIRST = expected(PIXELS)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS.astype(np.uint16) * 257,
        PIXELS.astype(np.float32) / 255,
        np.dstack([PIXELS, np.full((9, 14), 255, np.uint8)]),
        CHANNELS_FIRST,
        CHANNELS_FIRST / 255,
    ],
    ids=["PIL", "array", "16 bits", "float32", "opaque", "tensor", "float tensor"],
)
def test_every_kind_gives_the_same_pixels(picture):
    assert torch.equal(read_picture(picture), expected(PIXELS))


@pytest.mark.parametrize("alpha", [0, 100])
def test_transparent_pixels_lie_on_white(alpha):
    clear = np.dstack([PIXELS, np.full((9, 14), alpha, np.uint8)])
    clear[:, :7, 3] = 255
    on_white = (PIXELS.astype(np.float64) * alpha + 255.0 * (255 - alpha)) / 255
    for picture in (clear, torch.from_numpy(clear).permute(2, 0, 1), Image.fromarray(clear)):
        read = read_picture(picture).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(read[:, :7], PIXELS[:, :7])
        np.testing.assert_allclose(read[:, 7:], on_white[:, 7:], atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_file_and_its_pil_image_are_upright(tmp_path, orientation, form):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned"
    Image.fromarray(PIXELS).save(path, form, exif=exif)
    with Image.open(path) as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored))
    assert torch.equal(read_picture(path), expected(shown.copy()))
    assert torch.equal(read_picture(Image.open(path)), expected(shown.copy()))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "I;16"])
def test_a_whole_picture_has_the_pixels_that_training_reads(tmp_path, mode):
    picture = (
        Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200)
        if mode == "I;16"
        else noise(16, 16).convert(mode)
    )
    content = encoded(picture, "TIFF" if mode == "CMYK" else "PNG")
    (tmp_path / "picture").write_bytes(content)
    trained = decode_crop(content, 16, choose=lambda width, height: (0, 0, width, height))
    assert torch.equal(read_picture(str(tmp_path / "picture")), trained)


def test_lists_and_stacks_are_batches_and_other_inputs_are_single_images(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    one = (
        PIXELS,
        CHANNELS_FIRST,
        Image.fromarray(PIXELS),
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
    )
    two = (
        *([picture, picture] for picture in one),
        one[:2],
        np.stack([PIXELS] * 2),
        torch.stack([CHANNELS_FIRST] * 2),
    )
    for inputs, count, alone in (
        (one, 1, True),
        (([PIXELS], PIXELS[None], CHANNELS_FIRST[None]), 1, False),
        (two, 2, False),
    ):
        for given in inputs:
            pictures, single = read_pictures(given)
            assert (len(pictures), single) == (count, alone)
            assert all(torch.equal(picture, expected(PIXELS)) for picture in pictures)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((3, 9, 14)), r"an array \(3, 9, 14\) is not a picture; .*channels last"),
        (PIXELS.astype(np.float32), r"floats from 0 to 255 are not a picture; expected \[0, 1\]"),
        (7, "a int is not a picture; give a path"),
        ([], "an empty list of pictures"),
    ],
)
def test_an_unsuitable_image_is_refused_in_one_line(picture, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_pictures(picture)
    assert "\n" not in str(raised.value)
