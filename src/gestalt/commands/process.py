"""Keeping what does not concern a user of this program from the screen."""

import logging
import warnings

QUIET = (  # what Lightning says that does not concern a user of this program
    (".*does not have many workers.*", "a scale says how many"),
    (".*in eval mode at the start of training.*", "frozen towers and batch-norms are, on purpose"),
    (".*Checkpoint directory .* exists and is not empty.*", "a resumed run goes on in its folder"),
    (".*The number of training batches .* is smaller than the logging interval.*", "short runs are fine"),
    (".*could not find the monitored key in the returned metrics.*", "an epoch that is not validated has none"),
    (".*Total length of .* across ranks is zero.*", "a run without benchmarks is not validated"),
    (".*treespec, LeafSpec.*", "inside torch"),
)


def quiet() -> None:
    """Keep what does not concern a user of this program from the screen."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar for each weight file
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # tips, device lists, a line a rank
    for pattern, _ in QUIET:
        warnings.filterwarnings("ignore", pattern)
