"""Time the loading of images for training, on one core: our loader, other readers of the same tars,
and decoding and resizing alone.

The tars are of real photographs, resized to three sizes.  All take turns, so that a busy machine
slows all of them; seconds are the processor's.  ``GESTALT_DATA`` names the folder with coco_mini/;
without it this part is left out.
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from readers import READERS, SEED, SIDE, loops, write_tars

from tests.data_modules.files import encoded, random_resized_crop
from tests.data_modules.pixels.test_decoding import mean_difference, slowly

ROUNDS = 5
SIZES = {224: 480, 640: 160, 2048: 32}  # longest side, pixels: number of photographs
QUALITY = 90
TARGET_OVERHEAD = 0.15  # ms an image beyond the fastest loop
TARGETS = {224: None, 640: None, 2048: 1.3}  # times torchvision's reader
DIFFERENCE = 2.0  # of 255
READER = "torchvision"
LEFT_OUT = "loading photographs: left out; GESTALT_DATA names no folder with coco_mini/"


def photographs(root: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Read real photographs, resized to each of ``SIZES``."""
    files = sorted((root / "coco_mini/train2017").glob("*.jpg"))
    for longest, count in SIZES.items():
        yield longest, [resized(path.read_bytes(), longest) for path in files[:count]]


def resized(content: bytes, longest: int) -> bytes:
    """Resize a photograph, whatever its size, and encode it anew."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    ratio = longest / max(image.size)
    size = round(image.width * ratio), round(image.height * ratio)
    made: bytes = encoded(image.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=QUALITY)
    return made


def times(contents: list[bytes]) -> list[dict[str, Any]]:
    """Return the processor's ms an image of each reader and each loop, medians over the rounds, and
    ours against it: its time as a multiple of ours, and the ms that ours takes beyond.
    """
    with tempfile.TemporaryDirectory() as folder:
        tars = write_tars(Path(folder), contents)
        works = {("reader", name): build(tars) for name, build in READERS.items()}
        works |= {("loop", name): work for name, work in loops(contents).items()}
        measured: dict[tuple[str, str], list[float]] = {key: [] for key in works}
        for number in range(ROUNDS + 1):
            for key, values in measured.items():
                start = time.process_time()
                done = works[key]()
                if number > 0:  # the first round warms up
                    values.append(1000 * (time.process_time() - start) / done)
    mine = measured["reader", "ours"]
    return [
        {
            "kind": kind,
            "name": name,
            "ms": statistics.median(values),
            "ours over it": statistics.median(b / a for a, b in zip(mine, values, strict=True)),
            "ours beyond it": statistics.median(a - b for a, b in zip(mine, values, strict=True)),
        }
        for (kind, name), values in measured.items()
    ]


def difference(contents: list[bytes]) -> dict[str, float]:
    """Compare our crops with the same crops of images decoded whole and resized by Pillow: mean
    absolute difference, of 255.
    """
    differences = []
    for index, content in enumerate(contents):
        draws = {"seed": SEED, "epoch": 0, "index": index}
        fast, slow = (crop(content, SIDE, **draws) for crop in (random_resized_crop, slowly))
        differences.append(mean_difference(fast, slow))
    return {"mean": statistics.mean(differences), "worst": max(differences)}


def measure() -> dict[str, Any] | None:
    """Measure speed and pixels; None without photographs."""
    root = os.environ.get("GESTALT_DATA")
    if not root:
        return None
    rows: list[dict[str, Any]] = []
    targets = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loading process
    try:
        for longest, contents in photographs(Path(root)):
            found = times(contents)
            rows += [{"px": longest, **row} for row in found]
            targets |= reached(longest, found, **difference(contents))
    finally:
        torch.set_num_threads(threads)
    return {
        "title": f"loading to {SIDE}x{SIDE} uint8 on one of {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, the processor's ms an image, medians of {ROUNDS} rounds in "
        "turns; loops decode and resize in memory and do nothing else",
        "rows": rows,
        "targets": targets,
    }


def reached(
    longest: int, rows: list[dict[str, Any]], *, mean: float, worst: float
) -> dict[str, bool]:
    """Return a size's targets, with the values, and whether they are reached."""
    if (target := TARGETS[longest]) is None:
        fastest = min((row for row in rows if row["kind"] == "loop"), key=lambda row: row["ms"])
        value = fastest["ours beyond it"]
        speed = f"{value:.3f} ms beyond {fastest['name']}, at most {TARGET_OVERHEAD} ms"
        fast = value <= TARGET_OVERHEAD
    else:
        (value,) = (
            row["ours over it"] for row in rows if (row["kind"], row["name"]) == ("reader", READER)
        )
        speed, fast = f"{value:.2f} times {READER}'s reader, at least {target}", value >= target
    pixels = f"{mean:.2f} of 255 between pixels, worst image {worst:.2f}, below {DIFFERENCE:.0f}"
    return {f"{longest} px: {speed}": fast, f"{longest} px: {pixels}": mean < DIFFERENCE}
