"""Estimate the paper's run on GPUs that are not at hand: python tests/bench/reckoning.py (PYTHONPATH=src:.)

The FLOP of a pair and the bytes that its step keeps are counted on the CPU, with random weights and both towers of the paper.  Memory and
speed of a device follow from them by its data sheet and an assumed utilisation; nothing of the table is measured on a GPU.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from gpu import PEAKS, made_batch
from torch import nn
from transformers import T5Config, T5EncoderModel

from gestalt.building.model import build_model
from gestalt.building.training import build_module
from gestalt.config.loading import load
from gestalt.losses.matrix import BLOCK
from gestalt.planning.flops import counting
from gestalt.planning.probes import Saved
from gestalt.planning.reckoning import AHEAD, Held, Line, Memory, fitted

UTILISATION = 0.35
"""Share of the peak that a step is assumed to reach."""

OVERHEAD = 2 * 2**30
"""Bytes of a process on a GPU that are not counted: the context, workspaces, fragments."""

TEMPORARY = 1.3
"""Peak over what is kept for the backward pass, as gradients of activations and casts come on top: an assumption."""

BATCH = 8_192
"""Pairs of the paper's batch."""

PAIRS, EPOCHS = 10_969_475, 32
"""Those of the CC-12M copy whose index docs/results.md opens, and of the scale."""

ONE_WORKER = 150.0
"""Images a second of one loading process: Flickr8k's photographs of 500 pixels to crops of 448, on one core of a busy machine."""

TOKENS = 77
MACHINES = {"1 RTX 4090, 24 GB": ("RTX 4090$", 24, 1), "8 A100, 80 GB": ("A100", 80, 8), "32 A100, 80 GB": ("A100", 80, 32)}
"""Name -> row of ``PEAKS``, gigabytes, devices."""


class Pair(NamedTuple):
    """FLOP of a pair, forward and backward; bytes of activations by batch; parameters."""

    flop: float
    activations: Line
    parameters: int


def image_side(*, checkpointing: bool) -> Pair:
    """Count the image tower: ViT-B/16 at 448 pixels with a fifth of its tokens."""
    words = ["text.family=open_clip", "text.init=random", "text.layers=1", "text.width=32", "text.heads=2", "evaluation.benchmarks=[]"]
    words += ["image.init=random", f"image.gradient_checkpointing={str(checkpointing).lower()}"]
    config = load("clippy_random_max", scale=None, overrides=words)
    model = build_model(config)
    module = build_module(config, model, total_steps=1000)

    def forward(count: int) -> torch.Tensor:
        batch = made_batch(count, side=448)
        return model.embed_image(batch["image"], module._draw_tokens(batch)[0]).float().sum()

    return counted(model.image_tower, forward)


def text_side() -> Pair:
    """Count the text tower: the encoder of T5-base, captions padded to the longest that is kept."""
    torch.manual_seed(0)
    tower = T5EncoderModel(T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12))

    def forward(count: int) -> torch.Tensor:
        tokens: torch.Tensor = tower(input_ids=torch.randint(1000, (count, TOKENS))).last_hidden_state
        return tokens.float().sum()

    return counted(tower, forward)


def counted(tower: nn.Module, forward: object) -> Pair:
    """Count one and two pairs in bfloat16."""
    kept: dict[int, float] = {}
    flop = {}
    for count in (1, 2):
        saved = Saved(tower)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            forward(count)  # type: ignore[operator]
            saved.stop()
        kept[count] = sum(saved.bytes.values())
        with counting() as counter, torch.autocast("cpu", dtype=torch.bfloat16):  # apart: its attention keeps more than the fused one
            forward(count).backward()  # type: ignore[operator]
        flop[count] = counter.get_total_flops()
    return Pair(flop[2] - flop[1], fitted(kept), sum(parameter.numel() for parameter in tower.parameters()))


def memory(sides: Mapping[str, Pair], *, ranks: int) -> Memory:
    """Return the memory of a device: float32 weights, gradients and AdamW, and what both towers keep."""
    parameters = 4 * sum(side.parameters for side in sides.values())
    kept = {"weights": parameters, "gradients": parameters, "optimiser": 2 * parameters}
    activations = Line(sum(side.activations.fixed for side in sides.values()), sum(side.activations.each for side in sides.values()))
    peak = Line(sum(kept.values()) + OVERHEAD + activations.fixed, TEMPORARY * activations.each)
    return Memory(kept, activations, peak, pair=6 * 4, ranks=ranks, held=Held(BLOCK))


def rows(*, checkpointing: bool) -> list[str]:
    """Return a row of the table for each machine."""
    sides = {"image": image_side(checkpointing=checkpointing), "text": text_side()}
    flop = sum(side.flop for side in sides.values())  # what checkpointing computes again is counted too
    lines = []
    for name, (pattern, size, ranks) in MACHINES.items():
        share = BATCH // ranks
        fits = memory(sides, ranks=ranks).largest(size * 1e9)
        rate = UTILISATION * PEAKS[pattern] / flop
        workers = math.ceil(AHEAD * rate / ONE_WORKER)
        hours = EPOCHS * PAIRS / (rate * ranks) / 3_600
        cells = [f"{share:,}", f"{fits:,}", str(math.ceil(share / fits)), f"{rate:,.0f}", str(workers), f"{hours:,.0f}"]
        lines.append(f"| {name}{', checkpointing' if checkpointing else ''} | {' | '.join(cells)} |")
    each = sum(side.activations.each for side in sides.values()) / 2**20
    return [*lines, f"a pair: {flop / 1e9:,.0f} GFLOP, {each:.1f} MiB kept; {sum(side.parameters for side in sides.values()):,} parameters"]


if __name__ == "__main__":
    for choice in (False, True):
        print("\n".join(rows(checkpointing=choice)))
