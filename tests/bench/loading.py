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
from readers import READERS, SEED, SIDE, boxes_of, loops, write_tars

from gestalt.data_modules.pixels.photographs import to_tensor
from tests.data_modules.files import random_resized_crop

ROUNDS = 5
SIZES = {224: 480, 640: 160, 2048: 32}  # longest side, pixels: number of photographs
QUALITY = 90
TARGET_OVERHEAD = 0.15  # ms an image beyond the fastest loop
TARGETS = {224: None, 640: None, 2048: 1.3}  # times torchvision's reader
TARGET_DIFFERENCE = 2.0  # of 255


def photographs(root: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Read real photographs, resized to each of ``SIZES``."""
    files = sorted((root / "coco_mini" / "train2017").glob("*.jpg"))
    for longest, count in SIZES.items():
        yield longest, [resized(path.read_bytes(), longest) for path in files[:count]]


def resized(content: bytes, longest: int) -> bytes:
    """Resize a photograph, whatever its size, and encode it anew."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    ratio = longest / max(image.size)
    file = io.BytesIO()
    image.resize(
        (round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC
    ).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def times(contents: list[bytes]) -> dict[str, Any]:
    """Return the processor's ms an image of each reader and each loop, medians over the rounds, and
    ours against the others.
    """
    with tempfile.TemporaryDirectory() as folder:
        tars = write_tars(Path(folder), contents)
        works = {("reader", name): build(tars) for name, build in READERS.items()}
        missing = [name for (_, name), work in works.items() if work is None]
        works |= {("loop", name): work for name, work in loops(contents).items()}
        measured: dict[tuple[str, str], list[float]] = {
            key: [] for key, work in works.items() if work is not None
        }
        for number in range(ROUNDS + 1):
            for key, values in measured.items():
                start = time.process_time()
                done = works[key]()  # type: ignore[misc]
                if number > 0:  # the first round warms up
                    values.append(1000 * (time.process_time() - start) / done)
    mine = measured["reader", "ours"]
    medians = {key: statistics.median(values) for key, values in measured.items()}
    fastest = min((key for key in medians if key[0] == "loop"), key=medians.__getitem__)
    return {
        "readers": {name: value for (kind, name), value in medians.items() if kind == "reader"},
        "loops": {name: value for (kind, name), value in medians.items() if kind == "loop"},
        "missing": missing,
        "ours_over": {
            f"{kind} {name}": statistics.median(b / a for a, b in zip(mine, values, strict=True))
            for (kind, name), values in measured.items()
        },
        "fastest_loop": fastest[1],
        "overhead": statistics.median(a - b for a, b in zip(mine, measured[fastest], strict=True)),
    }


def difference(contents: list[bytes]) -> dict[str, float]:
    """Compare our crops with the same crops of images decoded whole and resized by Pillow: mean
    absolute difference, of 255.
    """
    differences = []
    for index, (content, (divisor, whole)) in enumerate(
        zip(contents, boxes_of(contents), strict=True)
    ):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        fast = random_resized_crop(content, SIDE, seed=SEED, epoch=0, index=index).int()
        edges = [min(edge * divisor, end) for edge, end in zip(whole, image.size * 2, strict=True)]
        slow = image.crop(edges).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        differences.append((fast - to_tensor(slow).int()).abs().float().mean().item())
    return {"mean": statistics.mean(differences), "worst": max(differences)}


def measure() -> dict[str, Any] | None:
    """Measure speed, pixels and memory; None without photographs."""
    root = os.environ.get("GESTALT_DATA")
    if not root:
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loading process
    try:
        sets = dict(photographs(Path(root)))
        rows = {
            str(longest): {**times(contents), "difference": difference(contents)}
            for longest, contents in sets.items()
        }
    finally:
        torch.set_num_threads(threads)
    return {"sets": rows, "load": os.getloadavg()[0], "cores": os.cpu_count()}


def show(results: dict[str, Any] | None) -> None:
    """Print what was measured."""
    if results is None:
        print("loading photographs: left out; GESTALT_DATA names no folder with coco_mini/")
        return
    print(
        f"loading to {SIDE}x{SIDE} uint8 on one core, the processor's ms an image, medians of "
        f"{ROUNDS} rounds in turns"
    )
    print(
        f"  {results['cores']} cores, load {results['load']:.1f}; loops decode and resize in "
        "memory and do nothing else"
    )
    for longest, row in results["sets"].items():
        print(f"  {longest} px")
        for kind in ("readers", "loops"):
            values = ", ".join(
                f"{name} {value:.3f} ({row['ours_over'][f'{kind[:-1]} {name}']:.2f})"
                for name, value in row[kind].items()
            )
            print(f"    {kind}, and ours over each: {values}")
        if row["missing"]:
            print(f"    not installed, not measured: {', '.join(row['missing'])}")
        show_targets(int(longest), row)


def show_targets(longest: int, row: dict[str, Any]) -> None:
    """Print a size's verdicts."""
    target = TARGETS[longest]
    if target is None:
        overhead = row["overhead"]
        value = f"{overhead:.3f} ms beyond {row['fastest_loop']}"
        verdict("overhead", value, f"at most {TARGET_OVERHEAD} ms", overhead <= TARGET_OVERHEAD)
    else:
        times_torchvision = row["ours_over"]["reader torchvision"]
        verdict(
            "over torchvision", f"{times_torchvision:.2f}", f"{target}", times_torchvision >= target
        )
    mean, worst = row["difference"]["mean"], row["difference"]["worst"]
    value = f"{mean:.2f} of 255, worst image {worst:.2f}"
    verdict("pixels differ by", value, f"below {TARGET_DIFFERENCE:.0f}", mean < TARGET_DIFFERENCE)


def verdict(quantity: str, value: str, target: str, reached: bool) -> None:
    """Print one line: the quantity, its value, the target, reached or not."""
    print(f"    {quantity:18} {value:60} target {target}: {'yes' if reached else 'NO'}")
