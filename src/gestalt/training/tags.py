"""TensorBoard's tags of a run's metrics: the groups of its charts.

TensorBoard sorts charts by their tags, groups them by the part before the first slash, and opens
the first two groups.  A tag is therefore a numbered group and the key under which a metric is
logged: ``1 overview/train/loss``.
"""

# the groups of tags, in the order of the board
OVERVIEW = "1 overview"
SCORES = "2 scores"
TRAINING = "3 training"
PICTURES = "4 pictures"
CLASSES = "5 classes"

FIRST_OF_TRAINING = ("train/loss", "speed/images_per_second")
FIRST_SCORES = ("miou", "accuracy", "recall_at_10")
"""Metrics of the overview: keys of training, and names of a benchmark's metrics."""

TRAINING_KEYS = ("train", "speed", "tokens", "bad_samples", "epoch")
"""First parts of the keys that training logs; those of scores are names of benchmarks."""


def board_tag(key: str) -> str:
    """Return the tag under which TensorBoard has the metric of a key."""
    first, _, name = key.partition("/")
    if "/iou/" in key:
        return f"{CLASSES}/{key}"
    if first in TRAINING_KEYS:
        return f"{OVERVIEW if key in FIRST_OF_TRAINING else TRAINING}/{key}"
    return f"{OVERVIEW if name in FIRST_SCORES else SCORES}/{key}"
