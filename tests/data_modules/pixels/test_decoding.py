"""From bytes to a crop: the same image as a slow reference for every kind of file; an undecodable
file has a reason.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from gestalt.data_modules.pixels import photographs
from gestalt.data_modules.pixels.augment import crop_box
from gestalt.data_modules.pixels.bad_samples import REASONS
from gestalt.data_modules.pixels.decoding import divisor_of, shown_size, whole_box
from gestalt.data_modules.pixels.photographs import BadSample, read_bytes, to_tensor
from tests.data_modules.files import decode_crop, encoded, noise, random_resized_crop

COLOUR = (200, 100, 50)
FLAT = Image.new("RGB", (40, 30), COLOUR)


def smooth(width, height):
    """Something like a photograph: noise with waves of 60, 15 and 6 pixels."""
    rng = np.random.default_rng(0)
    layers = [
        Image.fromarray(rng.integers(0, 256, (height // k + 2, width // k + 2, 3), dtype=np.uint8))
        for k in (60, 15, 6)
    ]
    return Image.fromarray(
        np.mean([layer.resize((width, height), 3) for layer in layers], axis=0).astype(np.uint8)
    )


def everything(width, height):
    return 0, 0, width, height


def slowly(content, size, *, seed, epoch, index, fractions=False):
    """The same crop of the whole picture decoded; ``fractions`` of pixels where Pillow resizes."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    box = crop_box(image.width, image.height, rng=np.random.default_rng([seed, epoch, index, 1]))
    if fractions:
        return to_tensor(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    divisor = divisor_of(box, size=size)
    edges = zip(whole_box(box, divisor=divisor), (image.width, image.height) * 2, strict=True)
    crop = image.crop([min(edge * divisor, end) for edge, end in edges])
    return to_tensor(crop.resize((size, size), Image.Resampling.BICUBIC))


def mean_difference(first, second):
    return (first.int() - second.int()).abs().float().mean().item()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("width", "height"), [(300, 200), (500, 375), (643, 481), (1025, 770)])
def test_a_crop_of_a_downscaled_jpeg_is_close_to_that_of_the_full_image(width, height, mode):
    content = encoded(smooth(width, height).convert(mode), "JPEG", quality=90)
    for index in range(3):
        draws = {"seed": 0, "epoch": 1, "index": index}
        assert (
            mean_difference(
                random_resized_crop(content, 96, **draws),
                slowly(content, 96, fractions=mode == "CMYK", **draws),
            )
            < 2
        )


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_the_crop_box_keeps_its_position_for_every_divisor(divisor):
    image = Image.new("RGB", (643, 481), "black")
    image.paste("white", (200, 100, 420, 310))
    content = encoded(image, "JPEG", quality=95)
    crop = decode_crop(
        content, 210 // divisor, choose=lambda width, height: (200, 100, 420, 310)
    ).float()
    assert crop[:, 2:-2, 2:-2].min() > 250  # white up to the box's edge
    outside = decode_crop(content, 480 // divisor, choose=everything).float().mean() / 255
    assert outside == pytest.approx(220 * 210 / (643 * 481), abs=0.002)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(
        smooth(120, 90), form, exif=exif, **({"lossless": True} if form == "WEBP" else {})
    )
    draws = {"seed": 3, "epoch": 0, "index": orientation}
    slow = slowly(content, 64, fractions=form != "JPEG" or orientation > 1, **draws)
    assert (random_resized_crop(content, 64, **draws).int() - slow.int()).abs().max() <= 1
    assert shown_size(content) == ((90, 120) if orientation >= 5 else (120, 90))


def sixteen(dtype, form, **options):
    return encoded(Image.fromarray(np.full((30, 40), 257 * 128, dtype)), form, **options)


def palette(**options):
    return encoded(FLAT.convert("P", palette=Image.Palette.ADAPTIVE), **options)


FOLLOWING = [Image.new("RGB", (40, 30), "blue")]
FOUND = {
    "grey": (encoded(Image.new("L", (40, 30), 77)), (77, 77, 77)),
    "black and white": (encoded(Image.new("1", (40, 30), 1)), (255, 255, 255)),
    "CMYK": (encoded(FLAT.convert("CMYK"), "JPEG", quality=95), COLOUR),
    "16 bits": (sixteen("<u2", "PNG"), (128, 128, 128)),
    "16 bits, one value transparent": (
        sixteen("<u2", "PNG", transparency=257 * 128),
        (255, 255, 255),
    ),
    "16 bits, high byte first": (sixteen(">u2", "TIFF"), (128, 128, 128)),
    "16 bits, PGM": (
        b"P5 40 30 65535\n" + np.full((30, 40), 257 * 128, ">u2").tobytes(),
        (128, 128, 128),
    ),
    "palette, one colour transparent": (palette(transparency=0), (255, 255, 255)),
    "palette, half transparent": (palette(transparency=bytes([128] * 256)), (227, 177, 152)),
    "black and transparent": (encoded(Image.new("RGBA", (40, 30), (0, 0, 0, 0))), (255, 255, 255)),
    "RGB, one colour transparent": (encoded(FLAT, transparency=COLOUR), (255, 255, 255)),
    "animated GIF": (encoded(FLAT, "GIF", save_all=True, append_images=FOLLOWING), COLOUR),
}


@pytest.mark.parametrize("name", FOUND)
def test_every_kind_of_picture_keeps_its_colours(name):
    content, expected = FOUND[name]
    crop = decode_crop(content, 16, choose=everything)
    assert crop.shape == (3, 16, 16)
    assert (crop - torch.tensor(expected).view(3, 1, 1)).abs().max() <= 3
    assert shown_size(content) == (40, 30)


JPEG, PNG = encoded(noise(), "JPEG"), encoded(noise())
REFUSED = {
    "nothing": (b"", "zero_bytes"),
    "a web page": (b"<html>404</html>", "not_an_image"),
    "a program that draws": (encoded(FLAT, "EPS"), "not_an_image"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated"),
    "a PNG with a wrong byte": (PNG[:200] + bytes([PNG[200] ^ 255]) + PNG[201:], "broken_image"),
    "a counting pixel": (encoded(Image.new("RGB", (1, 1)), "GIF"), "too_small"),
    "a line": (encoded(Image.new("RGB", (500, 7)), "JPEG"), "too_small"),
    "a bomb": (encoded(Image.new("1", (20_000, 20_000))), "too_large"),
    "numbers": (
        encoded(Image.fromarray(np.full((30, 40), 0.5, np.float32)), "TIFF"),
        "value_range",
    ),
}


@pytest.mark.parametrize(
    "read",
    [lambda content: decode_crop(content, 16, choose=everything), shown_size],
    ids=["crop", "size"],
)
@pytest.mark.parametrize("name", REFUSED)
def test_an_undecodable_file_has_a_reason(name, read):
    content, reason = REFUSED[name]
    with pytest.raises(BadSample) as caught:
        read(content)
    assert caught.value.reason == reason
    assert reason in REASONS


def test_a_crop_is_drawn_from_seed_epoch_and_index_however_large():
    for draws in ({"seed": 2**40, "epoch": 0, "index": 1}, {"seed": 0, "epoch": 3, "index": 2**31}):
        assert random_resized_crop(PNG, 32, **draws).equal(slowly(PNG, 32, fractions=True, **draws))


def test_only_regular_files_are_read_and_not_without_limit(tmp_path, monkeypatch):
    large = tmp_path / "large.jpg"
    large.write_bytes(b"12345")
    monkeypatch.setattr(photographs, "BYTE_LIMIT", 4)
    for path, reason in {
        Path("/dev/zero"): "unreadable",
        large: "too_large",
        tmp_path / "zero\0byte.jpg": "missing_image",
        tmp_path / "none.jpg": "missing_image",
    }.items():
        with pytest.raises(BadSample) as error:
            read_bytes(path)
        assert error.value.reason == reason, path
