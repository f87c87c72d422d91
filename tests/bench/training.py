"""Time a training step by the share of tokens."""

import statistics
from functools import partial
from typing import Any

import torch
from clock import DEVICE, in_turns, ratio

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.subsampling import keep_indices, kept_tokens

SHARES = (1.0, 0.5, 0.2)
TARGET = 0.35  # a step at 20 % of the tokens, as a share of one with all
SIDE = 448  # pixels


def measure() -> dict[str, Any]:
    """Time forward and backward of a ViT-S/16 at 448 pixels, by the share of tokens kept."""
    batch, rounds = (2, 5) if DEVICE.type == "cpu" else (64, 20)
    torch.manual_seed(0)
    image = Image("vit_small_patch16_224", init="random", eval_size=SIDE)
    tower = build_image_tower(image).to(DEVICE)
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

    taken = in_turns({share: partial(step, share) for share in SHARES}, rounds=rounds)
    rows = [
        {
            "share": share,
            "tokens": kept_tokens(total, share),
            "seconds": statistics.median(taken[share]),
            "ratio": ratio(taken[share], taken[1.0]),
        }
        for share in SHARES
    ]
    return {
        "title": f"ViT-S/16 at {SIDE} px, forward + backward, batch {batch}, {rounds} rounds in "
        f"turns, on {DEVICE}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}",
        "rows": rows,
        "targets": {
            f"{SHARES[-1]:.0%} of the tokens in at most {TARGET} of the full step": rows[-1][
                "ratio"
            ]
            <= TARGET
        },
    }
