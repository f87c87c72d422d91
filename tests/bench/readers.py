"""Readers and loops that ``loading`` compares: our loader, three other readers of the same tars,
and loops that only decode and resize.

Each function returns a piece of work that yields nothing but the number of images that it made,
(3, SIDE, SIDE) uint8.  No reader converts to floats, which is the device's work, and none shuffles
or tokenises.
"""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import simplejpeg
import torch
import webdataset
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.pixels.augment import SCALE, crop_box
from gestalt.data_modules.pixels.decoding import divisor_of, whole_box
from gestalt.data_modules.sources import open_source
from tests.data_modules.tar_files import write_tar

SIDE, BATCH, SEED = 224, 32, 0  # pixels, pairs
Work = Callable[[], int]
Box = tuple[int, int, int, int]
BICUBIC = v2.InterpolationMode.BICUBIC


def write_tars(folder: Path, contents: list[bytes]) -> list[str]:
    """Write the files, each with a caption, into two tars in webdataset's layout."""
    half = -(-len(contents) // 2)
    paths = []
    for start in (0, half):
        members = []
        for number, content in enumerate(contents[start : start + half], start):
            caption = f"a photograph, number {number}".encode()
            members += [(f"{number:06d}.jpg", content), (f"{number:06d}.txt", caption)]
        paths.append(str(write_tar(folder / f"{start:06d}.tar", members)))
    return paths


def ours(tars: list[str]) -> Work:
    """Our loader, in the training process."""
    source = open_source("tars", root=str(Path(tars[0]).parent), size=SIDE, seed=SEED, limit=None)
    data = ImageTextDataModule(source, size=SIDE, batch_size=BATCH, workers=0, seed=SEED)
    return lambda: sum(len(batch["text"]) for batch in data.train_dataloader())


def decoded(content: bytes) -> torch.Tensor:
    """Decode a JPEG by torchvision."""
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_jpeg(encoded, mode=ImageReadMode.RGB)


class Members(Dataset[tuple[torch.Tensor, str]]):
    """Members of tars by number, decoded and cropped by torchvision; where they lie is known
    beforehand.
    """

    def __init__(self, tars: list[str]) -> None:
        self.places = []
        self.files = {path: os.open(path, os.O_RDONLY) for path in tars}  # until the process ends
        self.crop = v2.RandomResizedCrop(SIDE, scale=SCALE, interpolation=BICUBIC, antialias=True)
        for path in tars:
            with tarfile.open(path) as tar:
                members = [(member.offset_data, member.size) for member in tar]
            self.places += [(path, *pair) for pair in zip(members[::2], members[1::2], strict=True)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, str]:
        path, image, text = self.places[number]
        content, caption = (
            os.pread(self.files[path], size, offset) for offset, size in (image, text)
        )
        return self.crop(decoded(content)), caption.decode()


def torchvision_reader(tars: list[str]) -> Work:
    """A data set of torchvision's ``decode_jpeg`` and antialiased resize of uint8, with torch's own
    collation.
    """
    loader = DataLoader(Members(tars), batch_size=BATCH)
    return lambda: sum(len(texts) for _, texts in loader)


def webdataset_reader(tars: list[str]) -> Work:
    """open_clip's pipeline of webdataset, Pillow and torchvision, up to uint8."""
    stages = [
        webdataset.SimpleShardList(tars),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.map_dict(image=_of_pil()),
        webdataset.to_tuple("image", "text"),
        webdataset.batched(BATCH, partial=False),
    ]
    loader = webdataset.WebLoader(
        webdataset.DataPipeline(*stages), batch_size=None, shuffle=False, num_workers=0
    )
    return lambda: sum(len(texts) for _, texts in loader)


def datasets_reader(tars: list[str]) -> Work:
    """A stream of datasets' own reader of such tars, with the same transform."""
    datasets.disable_progress_bars()
    stream = datasets.load_dataset(
        "webdataset", data_files={"train": tars}, split="train", streaming=True
    )
    transform = _of_pil()
    mapped = stream.map(
        lambda row: {"image": transform(row["jpg"]), "text": row["txt"]},
        remove_columns=stream.column_names,
    )
    loader: Any = DataLoader(mapped, batch_size=BATCH)
    return lambda: sum(len(batch["text"]) for batch in loader)


READERS: dict[str, Callable[[list[str]], Work]] = {
    "ours": ours,
    "torchvision": torchvision_reader,
    "webdataset": webdataset_reader,
    "datasets, streamed": datasets_reader,
}


def _of_pil() -> Any:
    """open_clip's training transform, without the conversion to floats."""
    return v2.Compose(
        [v2.RGB(), v2.RandomResizedCrop(SIDE, scale=SCALE, interpolation=BICUBIC), v2.PILToTensor()]
    )


def boxes_of(contents: list[bytes]) -> list[tuple[int, Box]]:
    """Draw the crops of our first epoch: the divisor of each image's size, and the box at that
    size.
    """
    boxes = []
    for index, content in enumerate(contents):
        width, height = Image.open(io.BytesIO(content)).size
        box = crop_box(width, height, rng=np.random.default_rng([SEED, 0, index, 1]))
        divisor = divisor_of(box, size=SIDE)
        boxes.append((divisor, whole_box(box, divisor=divisor)))
    return boxes


def _by_pillow(content: bytes, divisor: int, box: Box) -> None:
    image = Image.open(io.BytesIO(content))
    if divisor > 1:
        image.draft(None, (image.width // divisor, image.height // divisor))
    (image if image.mode == "RGB" else image.convert("RGB")).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, box=box
    )


def _by_torchvision(content: bytes, divisor: int, box: Box) -> None:
    left, top, right, bottom = (edge * divisor for edge in box)
    pixels = decoded(content)
    v2.functional.resize(
        pixels[:, top:bottom, left:right], [SIDE, SIDE], interpolation=BICUBIC, antialias=True
    )


def _by_simplejpeg(content: bytes, divisor: int, box: Box) -> None:
    height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    pixels = simplejpeg.decode_jpeg(
        content, "RGB", min_height=-(-height // divisor), min_width=-(-width // divisor)
    )
    left, top, right, bottom = box
    crop = torch.from_numpy(pixels[top:bottom, left:right]).unsqueeze(0).permute(0, 3, 1, 2)
    functional.interpolate(crop, size=(SIDE, SIDE), mode="bicubic", antialias=True)


LOOPS: dict[str, Callable[[bytes, int, Box], None]] = {
    "Pillow": _by_pillow,
    "torchvision": _by_torchvision,
    "simplejpeg and torch": _by_simplejpeg,
}


def loops(contents: list[bytes]) -> dict[str, Work]:
    """Build the loops that decode and resize in memory and do nothing else, by name; the crops are
    drawn beforehand.
    """
    boxes = boxes_of(contents)

    def loop(decode: Callable[[bytes, int, Box], None]) -> int:
        for content, (divisor, box) in zip(contents, boxes, strict=True):
            decode(content, divisor, box)
        return len(contents)

    return {name: (lambda decode=decode: loop(decode)) for name, decode in LOOPS.items()}
