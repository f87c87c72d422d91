"""Count the operations of a training step that make the host wait for a CUDA device, as torch
reports them.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

REPORTED = "called a synchronizing CUDA operation"


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count by the place in the code while the block runs."""
    places: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places.update(f"{row.filename}:{row.lineno}" for row in caught if REPORTED in str(row.message))


class CountSteps(Callback):
    """Counts from the end of each step to the end of the next, copies of the batch and logging
    included; the first step is left out, in which the optimiser makes its state.

    Attributes:
        steps: by the place in the code, of each step from the second on.
    """

    def __init__(self) -> None:
        self.steps: list[Counter[str]] = []
        self._open: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the count of this step and open that of the next."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        if trainer.global_step < trainer.max_steps:
            self._open = counted()
            self.steps.append(self._open.__enter__())
