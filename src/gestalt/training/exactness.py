"""Bit-identical scores for any number of ranks, and under any ``trainer.compile``."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class OneThreadValidation(Callback):
    """Validates on one CPU thread per rank, for image towers with convolutions and for protocols
    with windows.

    oneDNN splits a convolution by the number of threads, which launchers set by the number of
    ranks: the last bits change, and a few pixels may change class.  The same holds for matrix
    products of a ViT over many windows, but not over small batches of whole images. Accelerators
    are not affected.
    """

    _threads: int = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set one thread."""
        if pl_module.device.type == "cpu":
            self._threads = torch.get_num_threads()
            torch.set_num_threads(1)

    def on_validation_end(self, *_: Any) -> None:
        """Restore the number of threads."""
        if self._threads:
            torch.set_num_threads(self._threads)
            self._threads = 0


class EagerValidation(Callback):
    """Validation without the compiled towers: scores are those of ``eval``, and no image size needs
    a compilation of its own.
    """

    def on_validation_start(self, *_: Any) -> None:
        """Switch to eager execution."""
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, *_: Any, **__: Any) -> None:
        """Switch back."""
        torch.compiler.set_stance("default")

    on_exception = on_validation_end  # for later work in this process
