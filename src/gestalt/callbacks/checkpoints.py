"""Checkpoints that survive: written atomically, never in the middle of an epoch's end, and on Ctrl-C."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from gestalt.runs.names import LAST
from gestalt.support.files import replacing

BEST = "best"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a file under a checkpoint's name is always whole.

    Lightning's own writer moves a file from the system's temporary folder, which is a copy, and so can be cut short, where that folder is
    on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save to ``path``; a killed process leaves the previous file, and at most one ``*.partial`` beside it."""
        with replacing(Path(path)) as partial:
            super().save_checkpoint(checkpoint, partial, storage_options)


class Interrupted(RuntimeError):
    """Training stopped by a signal after saving; carries the signal's number and the checkpoint."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; saved {checkpoint}")
        self.signal_number = signal_number
        self.checkpoint = checkpoint


class StepCheckpoint(ModelCheckpoint):
    """Saves ``last`` every n steps, except at an epoch's last one: the save after validation takes its place, so none is half validated."""

    def __init__(self, *, every_steps: int) -> None:
        super().__init__(filename=LAST, every_n_train_steps=every_steps, save_on_train_epoch_end=False, enable_version_counter=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save, unless the epoch is over."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class EpochCheckpoint(ModelCheckpoint):
    """Saves ``last`` at the end of each epoch, after validation."""

    def __init__(self) -> None:
        super().__init__(filename=LAST, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the highest value of ``monitor`` as ``best``."""

    def __init__(self, monitor: str) -> None:
        super().__init__(filename=BEST, monitor=monitor, mode="max", save_on_train_epoch_end=True, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Recall the best, wherever the run's folder lies now: Lightning forgets it where the folder is called by another path."""
        here = self.dirpath = str(self.dirpath or state_dict["dirpath"])

        def moved(path: str) -> str:
            return path and str(Path(here) / Path(path).name)

        paths = {key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        kept = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": kept, "dirpath": here})


class SaveOnSignal(Callback):
    """On Ctrl-C or SIGTERM: finish the step, save ``last`` on all ranks together, and raise :class:`Interrupted`; a second Ctrl-C kills.

    A signal during validation is answered after it, at the save that ends the epoch.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop if any rank was told to, unless the epoch is over."""
        if not trainer.is_last_batch and self._told(trainer):
            path = _last_path(trainer)
            trainer.save_checkpoint(path)
            raise Interrupted(self.received or signal.SIGINT, path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if a signal came while the last epoch ended: its checkpoint is there."""
        if self._told(trainer):
            raise Interrupted(self.received or signal.SIGINT, _last_path(trainer))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give them back after an error too: Lightning tears down without asking callbacks."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _told(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def _last_path(trainer: Trainer) -> Path:
    folder = next(callback.dirpath for callback in trainer.checkpoint_callbacks if isinstance(callback, EpochCheckpoint))
    assert folder is not None
    return Path(folder) / f"{LAST}.ckpt"
