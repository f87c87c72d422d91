"""Callbacks with an entry in the record: those that score, and those that report why a measure is
left out.
"""

import sys
from abc import ABC, abstractmethod

from lightning.pytorch import Callback, LightningModule, Trainer

from gestalt.measures.evaluation.predictions import Predictions
from gestalt.support.arrays import Array
from gestalt.support.json_files import Fields


class RecordedCallback(Callback, ABC):
    """Base class of callbacks that have an entry in the record of a run or an evaluation.

    Args:
        name: name of the benchmark.

    Attributes:
        measure: a row of the table of measures.
    """

    measure: str

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def result(self) -> Fields:
        """Return the entry as JSON; its ``metrics`` are those of the last evaluation."""

    def per_image(self) -> dict[str, Array]:
        """Return ``<benchmark>/<name>`` to an array of each image's contribution, in order of image
        id.
        """
        return {}

    def predictions(self) -> Predictions | None:
        """Return the predictions that are kept for a report; None for none."""
        return None


class SkippedMeasure(RecordedCallback):
    """Report a measure that is left out: once at the start, and in the record.

    Args:
        name: name of the benchmark.
        measure: the one that is left out.
        why: the reason, for messages.
    """

    def __init__(self, name: str, *, measure: str, why: str) -> None:
        super().__init__(name)
        self.measure = measure
        self.why = why
        self._printed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the reason once, on the first rank."""
        if trainer.is_global_zero and not self._printed:
            print(f"{self.name}: {self.measure} is left out, {self.why}", file=sys.stderr)
        self._printed = True

    def result(self) -> Fields:
        """Return the reason for a JSON record, without metrics."""
        return {"set": self.name, "left_out": self.measure, "why": self.why, "metrics": {}}
