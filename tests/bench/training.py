"""Time training: a step by the share of tokens, the demo's step in its parts."""

import os
import statistics
from typing import Any

import torch
from clock import DEVICE, seconds
from step import TrainingStep

from gestalt.building.source import build_source
from gestalt.building.training import build_data
from gestalt.config.loading import load
from gestalt.config.schema import Image
from gestalt.encoders.image import build_image_tower
from gestalt.subsampling import keep_indices, kept_tokens

SHARES = (1.0, 0.5, 0.2)
TARGET = 0.35  # a step at 20 % of the tokens, as a share of one with all
SIDE = 448  # pixels


def token_steps(*, batch: int, rounds: int) -> dict[str, Any]:
    """Time forward and backward of a ViT-S/16 at 448 pixels, by the share of tokens kept."""
    torch.manual_seed(0)
    tower = build_image_tower(Image("vit_small_patch16_224", init="random"), size=SIDE).to(DEVICE)
    images = torch.randint(256, (batch, 3, SIDE, SIDE), dtype=torch.uint8, device=DEVICE)
    total = (SIDE // 16) ** 2
    sample_id = torch.arange(batch, device=DEVICE)

    def step(share: float) -> None:
        kept = kept_tokens(total, share)
        keep = (
            keep_indices(sample_id, torch.zeros_like(sample_id), seed=0, total=total, kept=kept)
            if share < 1
            else None
        )
        tower.zero_grad(set_to_none=True)
        tower(images, keep).parts.max(dim=1).values.sum().backward()

    for share in SHARES:
        step(share)  # allocations, and the choice of kernels
    taken: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(rounds):
        for share in SHARES:
            taken[share].append(seconds(lambda share=share: step(share)))
    ratios = {
        share: statistics.median(
            part / whole for part, whole in zip(taken[share], taken[1.0], strict=True)
        )
        for share in SHARES
    }
    rows = [
        {
            "share": share,
            "tokens": kept_tokens(total, share),
            "seconds": statistics.median(taken[share]),
            "ratio": ratios[share],
        }
        for share in SHARES
    ]
    return {"batch": batch, "rounds": rounds, "steps": rows, "target": TARGET}


def demo_step(*, steps: int) -> dict[str, Any]:
    """Time each part of the demo's step; images a second with data made in between (one process)
    and beside it (enough workers).
    """
    config = load("clippy_random_max", scale="demo", overrides=["data.workers=0"])
    step = TrainingStep(
        config,
        iter(build_data(config, build_source(config), validation=None).train_dataloader()),
        device=DEVICE,
    )
    parts = (
        step.data,
        step.image_forward,
        step.text_forward,
        step.loss,
        step.backward,
        step.optimiser,
    )
    taken: dict[str, list[float]] = {part.__name__: [] for part in parts}
    for number in range(steps + 1):
        for part in parts:
            spent = seconds(part)
            if number > 0:  # the first step warms up
                taken[part.__name__].append(spent)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    whole, batch = sum(medians.values()), config.data.batch_size
    rates = {
        "images_per_second": batch / whole,
        "images_per_second_without_data": batch / (whole - medians["data"]),
    }
    return {"batch": batch, "seconds": medians, **rates}


def show(results: dict[str, Any]) -> None:
    """Print what was measured."""
    tokens, demo = results["tokens"], results["demo"]
    print(f"on {results['device']}, {results['threads']} CPU threads, torch {torch.__version__}")
    if results["load"] > 0.5 and results["threads"] > 1:
        load_average = f"load {results['load']:.1f} at the start"
        print(
            f"other work was running ({load_average}): threads that share their cores wait for "
            "each other at every"
        )
        print(
            "operation, which hits short steps hardest; repeat on an idle machine or with "
            "OMP_NUM_THREADS=1"
        )
    print()
    print(
        f"ViT-S/16 at {SIDE} px, forward + backward, batch {tokens['batch']}, {tokens['rounds']} "
        "rounds in turns"
    )
    for row in tokens["steps"]:
        print(
            f"  {row['share']:5.0%} of the tokens ({row['tokens']:3d})  {row['seconds']:8.3f} s   "
            f"{row['ratio']:.3f} of the full step"
        )
    reached = "yes" if tokens["steps"][-1]["ratio"] <= TARGET else "NO"
    print(
        f"  target: {SHARES[-1]:.0%} of the tokens in at most {TARGET} of the full step: "
        f"{reached}\n"
    )
    print(f"demo step, batch {demo['batch']}")
    whole = sum(demo["seconds"].values())
    for name, spent in demo["seconds"].items():
        print(f"  {name:14} {1000 * spent:8.1f} ms   {spent / whole:4.0%}")
    rates = demo["images_per_second"], demo["images_per_second_without_data"]
    print(
        f"  {rates[0]:.0f} images/s with the data made in between, {rates[1]:.0f} images/s without "
        "it\n"
    )
    print()


def measure() -> dict[str, Any]:
    """Measure every part of training."""
    load_average = os.getloadavg()[0]  # before this process adds to it
    fast = DEVICE.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(0) if fast else "CPU",
        "threads": torch.get_num_threads(),
        "load": load_average,
        "tokens": token_steps(batch=64 if fast else 2, rounds=20 if fast else 5),
        "demo": demo_step(steps=5),
    }
