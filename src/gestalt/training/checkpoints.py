"""Checkpoints: written whole or not at all, never between an epoch's last step and its validation,
and on Ctrl-C.
"""

import shutil
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from gestalt.encoders.checkpoints import ANEW
from gestalt.encoders.state_dicts import cause
from gestalt.support.files import replacing
from gestalt.support.process import Interrupted, noting
from gestalt.training.finite import is_logging_step
from gestalt.training.keys import LAST

BEST = "best"
RESTORING = ("restore", "resume_start", "load_state_dict", "on_load_checkpoint")
"""Beginnings of the names of functions that restore a state, Lightning's and ours."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a file under a checkpoint's name is always whole.

    Lightning's own writer goes through memory and the system's temporary folder, which can be too
    small, or on another file system.

    Args:
        keep: keeps ``last`` of each multiple of so many steps as ``step_<n>.ckpt`` too; None for
            none.
    """

    def __init__(self, keep: int | None = None) -> None:
        super().__init__()
        self.keep = keep

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save to ``path``; a killed process leaves the previous file, and at most a ``*.partial``
        beside it.

        Raises:
            ValueError: a callback keeps what could not be loaded again.
        """
        for name, state in checkpoint.get("callbacks", {}).items():
            content = BytesIO()
            try:
                torch.save(state, content)
                content.seek(0)
                torch.load(content, weights_only=True)
            except Exception as error:  # pickle raises different errors
                raise ValueError(
                    f"trainer.callbacks: {name} keeps more than tensors, numbers and texts in its "
                    "state; have its state_dict() return these alone, such as lists for arrays"
                ) from error
        place = Path(path)
        first = place
        if self.keep and place.stem == LAST and checkpoint["global_step"] % self.keep == 0:
            # first: a run that is killed between the two takes the step again
            first = place.with_stem(f"step_{checkpoint['global_step']}")
        with replacing(first) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)
        if first != place:
            with replacing(place) as partial:
                shutil.copyfile(first, partial)


@contextmanager
def restoring(checkpoint: Path | None) -> Iterator[None]:
    """Refuse a checkpoint that cannot be restored within the block, since a state in it is missing
    or of another shape; other errors pass.

    Raises:
        ValueError: names the checkpoint, and the state by the message of torch or Lightning.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(frame.name.lstrip("_").startswith(RESTORING) for frame in frames):
            raise
        raise ValueError(f"{checkpoint}: cannot be resumed: {cause(error)}; {ANEW}") from error


class RunCheckpoint(ModelCheckpoint):
    """Saves checkpoints of a run whose folder may have moved, or may be given by another path, when
    the run resumes; by default after each epoch's validation.
    """

    def __init__(self, filename: str = LAST, *, at_ends: bool = True, **keywords: Any) -> None:
        super().__init__(
            filename=filename,
            enable_version_counter=False,
            save_on_train_epoch_end=at_ends,
            **keywords,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore scores and paths, with paths in the run's present folder.

        If the folder has another path, Lightning forgets the best score. It also mistakes the file
        that it has just written for an older checkpoint under another name, and removes it.
        """
        folder = self.dirpath = str(self.dirpath or state_dict["dirpath"])

        def moved(path: str) -> str:
            return path and str(Path(folder) / Path(path).name)

        paths = {
            key: moved(state_dict[key])
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": scores, "dirpath": folder})


class StepCheckpoint(RunCheckpoint):
    """Saves ``last`` every n steps, except at an epoch's last step, whose checkpoint follows its
    validation (``EpochCheckpoint``).
    """

    def __init__(self, *, every_steps: int) -> None:
        super().__init__(every_n_train_steps=every_steps, at_ends=False)

    def on_train_batch_end(self, trainer: Trainer, *step: Any) -> None:
        """Save, except at the epoch's last step."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *step)


class EpochCheckpoint(RunCheckpoint):
    """Saves ``last`` at the end of each epoch, after validation."""


class BestCheckpoint(RunCheckpoint):
    """Keeps the checkpoint with the highest value of ``monitor`` as ``best``."""

    def __init__(self, monitor: str) -> None:
        super().__init__(BEST, monitor=monitor, mode="max")

    def compare_last(self, trainer: Trainer, last: Path) -> None:
        """Copy ``last`` to ``best`` if the validation after training, which Lightning does not
        compare, gave it the highest value.
        """
        value = trainer.callback_metrics.get(str(self.monitor))
        if (
            value is None
            or not last.exists()
            or not (self.best_model_score is None or value > self.best_model_score)
        ):
            return
        best = last.with_stem(BEST)
        if trainer.is_global_zero:
            with replacing(best) as partial:
                shutil.copyfile(last, partial)
        self.best_model_score, self.best_model_path = value, str(best)


class SaveOnSignal(Callback):
    """Handles Ctrl-C, SIGTERM and SIGUSR1: finish the step, save ``last`` on all ranks, raise
    ``Interrupted``; a second signal kills.

    Ranks on CUDA devices tell each other at the steps that are logged, when the host waits for the
    device in any case. A signal during validation takes effect after it, when the epoch's
    checkpoint is saved.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._handlers = ExitStack()

    def on_train_start(self, *_: Any) -> None:
        """Install the handlers."""
        self._received = self._handlers.enter_context(noting())

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save and stop if any rank got a signal, except at the epoch's last step."""
        exchanges = (
            trainer.world_size == 1
            or trainer.strategy.root_device.type != "cuda"
            or is_logging_step(trainer)
        )
        if not trainer.is_last_batch and exchanges and (number := self._signal_of_all(trainer)):
            path = _last_path(trainer)
            trainer.save_checkpoint(path)
            raise Interrupted(number, path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if a signal came at the end of the last epoch, whose checkpoint is saved."""
        if number := self._signal_of_all(trainer):
            raise Interrupted(number, _last_path(trainer))

    def teardown(self, *_: Any, **__: Any) -> None:
        """Restore the previous handlers."""
        self._handlers.close()

    def on_exception(self, *_: Any) -> None:
        """Restore the previous handlers: after an error Lightning does not call ``teardown``."""
        self.teardown()

    def _signal_of_all(self, trainer: Trainer) -> int:
        """Return the highest signal that a rank got, 0 if none did: a rank that it has not reached
        yet stops for the same reason as the others.
        """
        own = self._received[-1] if self._received else 0
        if trainer.world_size == 1:
            return own
        number = torch.tensor(own, device=trainer.strategy.root_device)
        highest: Any = trainer.strategy.reduce(number, reduce_op="max")
        return int(highest)


def _last_path(trainer: Trainer) -> Path:
    """Return the path of ``last.ckpt``, in the folder of ``EpochCheckpoint``."""
    (folder,) = (
        callback.dirpath
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, EpochCheckpoint)
    )
    return Path(str(folder)) / f"{LAST}.ckpt"
