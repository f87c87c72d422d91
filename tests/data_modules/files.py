"""Pictures and captions to put into files of every kind."""

import csv
import io

import numpy as np
from PIL import Image

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.pixels.augment import prepare_random_crop
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.decoding import prepare_crop
from gestalt.data_modules.sources import open_source

CAPTIONS = [
    ["a dog .", "a brown dog ."],
    ["a cat ,\nasleep"],
    ["two birds", "a pair of birds", "birds"],
    ["grass"],
    ["a car"],
    ["a cup"],
]


NUMBERS = range(len(CAPTIONS))


def encoded(image, form="PNG", **options):
    """The file of an image."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(width=40, height=30, *, seed=0):
    """An image whose pixels a seed decides."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def picture(number, *, form="JPEG", side=(40, 30)):
    """The file of a picture of its own."""
    return encoded(noise(*side, seed=number), form)


def write_files(folder, *, content=picture):
    """A file for each picture."""
    folder.mkdir(parents=True)
    for number in NUMBERS:
        (folder / f"{number}.jpg").write_bytes(content(number))


def write_flickr(root, *, content=picture):
    """Flickr's layout."""
    write_files(root / "Images", content=content)
    with (root / "captions.txt").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption"])
        for number in NUMBERS:
            rows.writerows([f"{number}.jpg", caption] for caption in CAPTIONS[number])
    (root / "Flickr_8k.trainImages.txt").write_text(
        "".join(f"{number}.jpg\n" for number in NUMBERS)
    )


def opened(source, root, *, size=8, limit=None, **options):
    """A source of the files at a path."""
    return open_source(source, root=str(root), size=size, seed=0, limit=limit, **options)


def pair_or_bad(source, index, epoch=0):
    """A pair of a source, or why it is bad."""
    try:
        return source.pair(index, epoch)
    except BadSample as bad:
        return bad


def opened_set(name, root, *label_sets, split=None, limit=None, **options):
    """An image set of a part of the published one."""
    return open_image_set(
        name,
        root=root and str(root),
        split=split,
        limit=limit,
        subset=True,
        label_sets=label_sets or None,
        **options,
    )


def decode_crop(content, size, *, choose):
    """Decode a box of an image and resize it to a square."""
    return prepare_crop(content, size, choose=choose)()


def random_resized_crop(content, size, **draws):
    """Decode a random crop."""
    return prepare_random_crop(content, size, **draws)()
