"""What keeps a score the same bit by bit, whatever the number of ranks."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class OneThreadValidation(Callback):
    """Validates on one CPU thread a rank, for image towers with convolutions, and for protocols that cut windows.

    oneDNN cuts a convolution by the number of threads, which launchers set by the number of ranks, and so changes its last bits: with one
    checkpoint a few pixels may tip.  So may matrix products where many windows go through a ViT at once; for small batches of whole images
    they are the same on any number of threads.  An accelerator is not concerned.
    """

    def __init__(self) -> None:
        self._threads = 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lower the number of threads."""
        if pl_module.device.type == "cpu":
            self._threads = torch.get_num_threads()
            torch.set_num_threads(1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set it back."""
        if self._threads:
            torch.set_num_threads(self._threads)
            self._threads = 0
