"""Time the loading of images for training, on one core: our loader, a bare loop of decoding and resizing, and the usual pipeline.

All three read the same tars of photographs, in turns so that a busy machine slows all of them; seconds are the processor's.
``GESTALT_DATA`` names the folder with flickr8k/ and coco_mini/; without it this part is left out.
"""

import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import webdataset
from PIL import Image

from data_modules.image_text import ImageTextDataModule
from data_modules.pixels.augment import crop_box, random_resized_crop
from data_modules.pixels.photographs import to_tensor
from data_modules.sources import open_source

SIDE, BATCH, ROUNDS, SEED = 224, 32, 5, 0  # pixels, pairs
TARGETS = {"flickr8k, 224x224": 0.9, "coco_mini, 640x480": 1.1, "coco_mini enlarged, 2048x1536": 1.5}  # times the usual pipeline
TARGET_OF_BARE = 0.85
TARGET_DIFFERENCE = 2.0  # of 255
TARGET_GROWTH = 0.05
LONG = 20_000  # samples over which memory must not grow


def photographs(root: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Read three sets of JPEG files, each with its name."""
    small = sorted((root / "flickr8k" / "Images").glob("*.jpg"))[:640]
    middle = sorted((root / "coco_mini" / "train2017").glob("*.jpg"))[:320]
    files = [path.read_bytes() for path in small], [path.read_bytes() for path in middle]
    yield from zip(TARGETS, (*files, [enlarged(content) for content in files[1][:64]]), strict=True)


def enlarged(content: bytes) -> bytes:
    """Enlarge a photograph to 2048x1536, a camera's size, for the time that its decoding takes."""
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").resize((2048, 1536), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_tars(folder: Path, contents: list[bytes]) -> str:
    """Write the files into two tars; return a pattern that all pipelines understand."""
    with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=-(-len(contents) // 2), verbose=0) as writer:
        for number, content in enumerate(contents):
            writer.write({"__key__": f"{number:06d}", "jpg": content, "txt": f"a photograph, number {number}"})
    return f"{folder}/{{000000..000001}}.tar"


def ours(tars: str) -> Callable[[], int]:
    """Build our loader, in the training process; each call of the result reads all images and returns their number."""
    source = open_source("tars", root=tars, size=SIDE, seed=SEED, limit=None)
    data = ImageTextDataModule(source, size=SIDE, batch_size=BATCH, workers=0, seed=SEED)
    return lambda: sum(len(batch["text"]) for batch in data.train_dataloader())


def bare(contents: list[bytes]) -> Callable[[], int]:
    """Build a loop of Pillow's calls alone: open, decode at the size that ours does, resize the same crops, drawn beforehand."""
    boxes = []
    for index, content in enumerate(contents):
        width, height = Image.open(io.BytesIO(content)).size
        left, top, right, bottom = crop_box(width, height, rng=np.random.default_rng([SEED, 0, index, 1]))
        k = next(k for k in (8, 4, 2, 1) if k <= min(right - left, bottom - top) / SIDE or k == 1)
        boxes.append((k, (width // k, height // k), (left / k, top / k, right / k, bottom / k)))

    def run() -> int:
        for content, (divisor, size, box) in zip(contents, boxes, strict=True):
            image = Image.open(io.BytesIO(content))
            if divisor > 1:
                image.draft(None, size)
            (image if image.mode == "RGB" else image.convert("RGB")).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
        return len(contents)

    return run


def usual(tars: str) -> Callable[[], int]:
    """Build open_clip's pipeline of webdataset, Pillow and torchvision, without its shuffle buffer and tokenizer."""
    transform = open_clip.transform.image_transform(SIDE, is_train=True)
    stages = [
        webdataset.SimpleShardList(tars),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.map_dict(image=transform),
        webdataset.to_tuple("image", "text"),
        webdataset.batched(BATCH, partial=False),
    ]
    loader = webdataset.WebLoader(webdataset.DataPipeline(*stages), batch_size=None, shuffle=False, num_workers=0)
    return lambda: sum(len(texts) for _, texts in loader)


def rates(contents: list[bytes]) -> dict[str, Any]:
    """Return images a second of each pipeline, and ours over the others', each a median over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        tars = write_tars(Path(folder), contents)
        pipelines = {"ours": ours(tars), "bare": bare(contents), "usual": usual(tars)}
        measured: dict[str, list[float]] = {name: [] for name in pipelines}
        for number in range(ROUNDS + 1):
            for name, pipeline in pipelines.items():
                start = time.process_time()
                done = pipeline()
                if number > 0:  # the first round warms up
                    measured[name].append(done / (time.process_time() - start))
    over = {name: statistics.median(a / b for a, b in zip(measured["ours"], measured[name], strict=True)) for name in ("bare", "usual")}
    return {
        **{name: statistics.median(values) for name, values in measured.items()},
        "ours_over_bare": over["bare"],
        "ours_over_usual": over["usual"],
    }


def difference(contents: list[bytes]) -> dict[str, float]:
    """Compare our crops with those of images decoded at full size: mean absolute difference, of 255, over all and of the worst."""
    differences = []
    for index, content in enumerate(contents):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        box = crop_box(image.width, image.height, rng=np.random.default_rng([SEED, 0, index, 1]))
        slow = to_tensor(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
        fast = random_resized_crop(content, SIDE, seed=SEED, epoch=0, index=index)
        differences.append((fast.int() - slow.int()).abs().float().mean().item())
    return {"mean": statistics.mean(differences), "worst": max(differences)}


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(contents: list[bytes]) -> dict[str, float]:
    """Measure resident memory over ``LONG`` samples of our loader: after the first tenth, at most, and the growth between the two."""
    with tempfile.TemporaryDirectory() as folder:
        source = open_source("tars", root=write_tars(Path(folder), contents), size=SIDE, seed=SEED, limit=None)
        data = ImageTextDataModule(source, size=SIDE, batch_size=BATCH, workers=0, seed=SEED)
        seen, held = 0, []
        for batch in itertools.chain.from_iterable(data.train_dataloader() for _ in itertools.count()):
            seen += len(batch["text"])
            if seen >= LONG // 10:
                held.append(resident())
            if seen >= LONG:
                break
    return {"samples": seen, "at_first": held[0], "most": max(held), "growth": max(held) / held[0] - 1}


def measure() -> dict[str, Any] | None:
    """Measure speed, pixels and memory; None without photographs."""
    root = os.environ.get("GESTALT_DATA")
    if not root:
        return None
    sets = dict(photographs(Path(root)))
    held = memory(next(iter(sets.values())))
    return {"sets": {name: {**rates(contents), "difference": difference(contents)} for name, contents in sets.items()}, "memory": held}


def show(results: dict[str, Any] | None) -> None:
    """Print what was measured."""
    if results is None:
        print("loading photographs: left out; GESTALT_DATA names no folder with flickr8k/ and coco_mini/")
        return
    print(f"images a second of one core to {SIDE}x{SIDE}, medians of {ROUNDS} rounds in turns")
    print("  usual: webdataset, Pillow and torchvision as open_clip has them; bare: decode and resize, nothing else")
    for name, row in results["sets"].items():
        print(f"  {name}: ours {row['ours']:.0f}, bare {row['bare']:.0f}, usual {row['usual']:.0f}")
        verdict("over the usual", f"{row['ours_over_usual']:.2f}", f"{TARGETS[name]}", row["ours_over_usual"] >= TARGETS[name])
        verdict("over the bare", f"{row['ours_over_bare']:.2f}", f"{TARGET_OF_BARE}", row["ours_over_bare"] >= TARGET_OF_BARE)
        mean, worst = row["difference"]["mean"], row["difference"]["worst"]
        verdict(
            "pixels differ by", f"{mean:.2f} of 255, worst image {worst:.2f}", f"below {TARGET_DIFFERENCE:.0f}", mean < TARGET_DIFFERENCE
        )
    held = results["memory"]
    first, most = held["at_first"] / 2**20, held["most"] / 2**20
    print(f"  resident memory over {held['samples']:,} samples: {first:.0f} MiB, at most {most:.0f} MiB")
    verdict("growth", f"{held['growth']:+.1%}", f"{TARGET_GROWTH:.0%}", held["growth"] <= TARGET_GROWTH)


def verdict(quantity: str, value: str, target: str, reached: bool) -> None:
    """Print one line: the quantity, its value, the target, reached or not."""
    print(f"    {quantity:18} {value:34} target {target}: {'yes' if reached else 'NO'}")
