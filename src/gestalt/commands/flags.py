"""Help texts and types that the flags of several commands share."""

import argparse

SCALE = "one of `gestalt list scales`, or the path of a YAML file of yours (default: %(default)s)"
MODEL = (
    "a checkpoint, a run's folder, an experiment's name for its newest finished plain run, an "
    "exported folder or its name on the hub, "
    "or another model as KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
KEYS = (
    "key=value: any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 "
    "resume=last"
)


def count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word!r}")
    return int(word)
