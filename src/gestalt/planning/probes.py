"""Callbacks that time the steps of a trial and count what they keep in memory.  Nothing is written."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn


class Step(NamedTuple):
    """The measurements of one step.

    Attributes:
        batch: pairs.
        waited: seconds from the end of the last step to the batch.
        computed: seconds from the batch to the end of the step, with the device's work.
        peak: the most bytes in use.
        kept: part -> bytes kept for the backward pass, ``activations`` and ``loss``; empty if they were not counted.
    """

    batch: int
    waited: float
    computed: float
    peak: int
    kept: Mapping[str, int]


class Saved:
    """A count of the bytes that autograd keeps for the backward pass: each storage once, weights not at all.

    Args:
        model: what it keeps in its own forward pass counts as ``activations``, and all else as ``loss``.
        others: modules that count as the model does: those whose memory grows with the pairs of a rank.
    """

    def __init__(self, model: nn.Module, *others: nn.Module) -> None:
        self.bytes = {"activations": 0, "loss": 0}
        self._part = "loss"
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self._hooks = []
        for module in (model, *others):
            self._hooks.append(module.register_forward_pre_hook(lambda *_: self._enter("activations")))
            self._hooks.append(module.register_forward_hook(lambda *_: self._enter("loss")))
        self._saving = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._saving.__enter__()

    def _enter(self, part: str) -> None:
        self._part = part

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes[self._part] += storage.nbytes()
        return tensor

    def stop(self) -> None:
        """Stop counting; a second call does nothing."""
        if self._hooks:
            self._saving.__exit__(None, None, None)
        while self._hooks:
            self._hooks.pop().remove()


class StepProbe(Callback):
    """A timer of training steps, which ends the trial after some seconds.

    Args:
        counts: True to count what is kept for the backward pass, which costs time.
        seconds: time after which no further step is begun.

    Attributes:
        steps: those that were taken.
        kept: part -> bytes that a step keeps whatever its batch; empty before the first.
    """

    def __init__(self, *, counts: bool, seconds: float) -> None:
        self.steps: list[Step] = []
        self.kept: dict[str, int] = {}
        self._counts = counts
        self._end = time.monotonic() + seconds
        self._last = self._begun = 0.0
        self._saved: Saved | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to wait for the first batch."""
        self._last = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the time, and begin to count."""
        _wait_for(pl_module.device)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._begun = time.monotonic()
        module: Any = pl_module
        terms = [term for term in module.terms.values() if not term.compares_all]
        self._saved = Saved(module.model, *terms) if self._counts else None

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Stop counting."""
        if self._saved is not None:
            self._saved.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop counting: the hooks of autograd are those of the whole process."""
        if self._saved is not None:
            self._saved.stop()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the step; end the trial in time."""
        _wait_for(pl_module.device)
        now = time.monotonic()
        waited, computed = self._begun - self._last, now - self._begun
        kept = {} if self._saved is None else dict(self._saved.bytes)
        self.steps.append(Step(len(batch["text"]), waited, computed, peak_bytes(pl_module.device), kept))
        if not self.kept:
            self.kept = kept_bytes(pl_module, trainer.optimizers[0])
        trainer.should_stop = trainer.should_stop or now > self._end
        self._last = time.monotonic()


class ValidationProbe(Callback):
    """A timer of validation batches; the last of the callbacks, so that the scorers are timed.

    Attributes:
        ends: number of the set -> the times at which its batches were scored.
        began: number of the set -> the time at which its first batch was there.
    """

    def __init__(self) -> None:
        self.ends: dict[int, list[float]] = {}
        self.began: dict[int, float] = {}

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the first batch of a set."""
        self.began.setdefault(dataloader_idx, time.monotonic())

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the time."""
        _wait_for(pl_module.device)
        self.ends.setdefault(dataloader_idx, []).append(time.monotonic())

    def each(self) -> list[float]:
        """Return the seconds of a batch for each set; the first batch is left out if there are more."""
        return [
            (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0] - self.began[number] for number, ends in self.ends.items()
        ]

    def in_batches(self) -> float:
        """Return the seconds that were spent in batches."""
        return sum(each * len(ends) for each, ends in zip(self.each(), self.ends.values(), strict=True))


def kept_bytes(module: LightningModule, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Return the bytes of weights, gradients and optimiser state after a step."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    return {
        "weights": _bytes([*module.parameters(), *module.buffers()]),
        "gradients": _bytes(trained),
        "optimiser": _bytes(state),
    }


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes in use: on the accelerator since the last reset, or on a CPU by this process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
