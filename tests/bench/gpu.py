"""Time training steps of ViT-B/16 on one GPU: samples a second, MFU and peak memory, with all
tokens and with a fifth of them.

Weights are random, images and captions lie in memory: no download, and no loader in the
numbers.  MFU is model FLOP utilisation: the FLOP of a step as torch counts them (products and
convolutions, forward and backward) over the step's time and the peak of the device.
"""

import re
import statistics
from collections.abc import Callable
from typing import Any

import torch
from clock import DEVICE, seconds
from torch.utils.flop_counter import FlopCounterMode

from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.models.start import build_model
from gestalt.results.record import device_name
from tests.gestalt.at_step import alone, build_module
from tests.gpu.models import batch as noise

# pattern of the device's name, first match: FLOP/s of dense bfloat16 products, half of what NVIDIA
# gives with sparsity
PEAKS = {
    "B200": 2250e12,  # Blackwell architecture technical brief, HGX B200
    "H200 NVL": 835e12,  # H200 data sheet
    "H200": 989e12,
    "H100 NVL": 835e12,  # H100 data sheet
    "H100 PCIe": 756e12,
    "H100 80GB HBM3": 989e12,
    "A100": 312e12,  # A100 data sheet
    "L40S": 362e12,  # L40S data sheet
    "L4": 121e12,  # L4 data sheet
    "A10": 125e12,  # A10 data sheet
    "RTX 4090$": 165e12,  # Ada architecture white paper, float32 accumulation
    "RTX 3090$": 71e12,  # Ampere GA102 architecture white paper, float32 accumulation
}
SETTINGS = {  # name: side in pixels, what is set
    "ViT-B/16, 224 px, all tokens": (224, "image.subsampling=false"),
    "ViT-B/16, 448 px, 20 % of the tokens": (
        448,
        "image.subsampling=true image.train_size=448 image.keep_tokens=0.2",
    ),
}
TEXT = "text.family=open_clip text.init=random text.layers=12 text.width=512 text.heads=8"
TINY = (
    "image.width=32 image.depth=2 image.heads=2 text.layers=2 text.width=32 text.heads=2 "
    "projection.width=32"
)
BATCH, TINY_BATCH = 256, 4  # pairs
WARM_UP, STEPS, TINY_STEPS = 3, 20, 2
LEFT_OUT = "training steps on a GPU: left out; torch finds no CUDA device on this machine"
CAPTION = "a photo of {} red boats on a lake in front of the mountains"


def measure(*, tiny: bool, batch: int | None) -> dict[str, Any] | None:
    """Measure every setting; None without a GPU, unless it is tiny."""
    if DEVICE.type == "cpu" and not tiny:
        return None
    count, steps = batch or (TINY_BATCH if tiny else BATCH), TINY_STEPS if tiny else STEPS
    rows = []
    for name, (side, overrides) in SETTINGS.items():
        words = (
            f"image.init=random evaluation.benchmarks=[] {overrides} {TEXT} "
            f"{TINY if tiny else ''} data.batch_size={count}"
        )
        config = load("clippy_random_max", scale=None, overrides=words.split())
        try:
            rows.append({"setting": name, **measured(config, side=side, steps=steps)})
        except torch.cuda.OutOfMemoryError as error:
            raise SystemExit(
                f"{name}: --batch {count} does not fit the memory of {device_name(DEVICE)}; choose "
                "a smaller one"
            ) from error
    name, peak = device_name(DEVICE), peak_flops(device_name(DEVICE))
    return {
        "title": f"training steps on {name}, bf16-mixed, batch {count}, loader excluded; MFU of "
        + ("a device without a known peak" if peak is None else f"{peak / 1e12:.0f} TFLOP/s"),
        "rows": rows,
    }


def measured(config: Experiment, *, side: int, steps: int) -> dict[str, Any]:
    """Time the steps of one configuration; the first ones warm up, and the FLOP of the very first
    are counted.
    """
    step = training_step(config, made_batch(config.data.batch_size, side=side))
    with FlopCounterMode(display=False) as counter:
        step()
    for _ in range(WARM_UP):
        step()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats(DEVICE)
    taken = statistics.median(seconds(step) for _ in range(steps))
    memory = torch.cuda.max_memory_allocated(DEVICE) if DEVICE.type == "cuda" else None
    peak, flop = peak_flops(device_name(DEVICE)), counter.get_total_flops()
    return {
        "seconds": taken,
        "samples_per_second": config.data.batch_size / taken,
        "tflop": flop / 1e12,
        "mfu": peak and flop / taken / peak,
        "peak_memory_gib": memory and memory / 2**30,
    }


def training_step(config: Experiment, batch: dict[str, Any]) -> Callable[[], None]:
    """Return a step on this batch, in the precision of the configuration, by a fresh model."""
    model = build_model(config).to(DEVICE)
    module = alone(build_module(config, model, total_steps=1000))
    optimizer = module.make_optimizer(model, module.terms)
    batch |= {key: batch[key].to(DEVICE) for key in ("image", "sample_id", "epoch")}
    mixed = config.trainer.precision == "bf16-mixed"

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=mixed):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def made_batch(count: int, *, side: int) -> dict[str, Any]:
    """A batch of noise with captions of equal length, on the CPU."""
    return noise(count, side=side) | {"text": [CAPTION.format(number) for number in range(count)]}


def peak_flops(name: str) -> float | None:
    """The peak of the device of that name; None where the table has none."""
    return next(
        (peak for pattern, peak in PEAKS.items() if re.search(rf"\b{pattern}\b", name)), None
    )
