"""Time the demo's training step in its parts."""

import statistics
from typing import Any

from clock import DEVICE, seconds
from step import TrainingStep

from gestalt.building.source import build_source
from gestalt.building.training import build_data
from gestalt.config.loading import load

STEPS = 5


def measure() -> dict[str, Any]:
    """Time each part; images a second with data made in between (one process) and beside it (enough
    workers).
    """
    config = load("clippy_random_max", scale="demo", overrides=["data.workers=0"])
    data = build_data(config, build_source(config), validation=None)
    step = TrainingStep(config, iter(data.train_dataloader()), device=DEVICE)
    parts = (
        step.data,
        step.image_forward,
        step.text_forward,
        step.loss,
        step.backward,
        step.optimiser,
    )
    taken: dict[str, list[float]] = {part.__name__: [] for part in parts}
    for number in range(STEPS + 1):
        for part in parts:
            spent = seconds(part)
            if number > 0:  # the first step warms up
                taken[part.__name__].append(spent)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    whole, batch = sum(medians.values()), config.data.batch_size
    return {
        "title": f"demo step, batch {batch}: {batch / whole:.0f} images/s with the data made in "
        f"between, {batch / (whole - medians['data']):.0f} without it",
        "rows": [
            {"part": name, "ms": 1000 * spent, "share": spent / whole}
            for name, spent in medians.items()
        ],
    }
