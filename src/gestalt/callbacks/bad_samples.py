"""What a run could not read: counted by reason over all ranks and the whole run, said aloud, and too much of it stops the run.  B batch."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed

FIRST_SAMPLES = 1000
"""Of fewer samples a share says little: a run stops when more are bad than the allowed share of those seen, or of this many if more."""


class TooManyBad(RuntimeError):
    """More of the data is bad than ``data.max_bad_share``; the message names the reasons, and where the first of each lies."""


class BadSamples(Callback):
    """Logs ``train/bad_samples``, the number so far, and ``bad_samples/<reason>``.

    Its counts live on in checkpoints: a resumed run has those of an uninterrupted one.

    Args:
        reasons: their names; a batch holds positions in them, and -1 for a good sample.
        max_share: share of bad samples, [0, 1], that stops the run when it is passed.

    Attributes:
        seen: samples that were asked for, good and bad.
        counts: bad ones of each reason that occurred.
        first: shard and key of the first one of each, in the stream's order.

    Raises:
        TooManyBad: on every rank at once, before the step: the share is passed, or a whole batch is bad.
    """

    def __init__(self, reasons: tuple[str, ...], *, max_share: float) -> None:
        self.reasons = reasons
        self.max_share = max_share
        self.seen = 0
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    @property
    def bad(self) -> int:
        """How many were bad."""
        return sum(self.counts.values())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count this step's samples over all ranks, and judge."""
        good, *found = _over_ranks(torch.bincount(batch["reason"] + 1, minlength=len(self.reasons) + 1))
        self.seen += good + sum(found)
        new = [code for code, count in enumerate(found) if count and self.reasons[code] not in self.first]
        for code, place in _first_places(batch, new).items():
            self.first[self.reasons[code]] = place
            pl_module.print(f"bad sample, {self.reasons[code]}: {place}; it is left out of the loss and counted")
        for code, count in enumerate(found):
            if count:
                self.counts[self.reasons[code]] = self.counts.get(self.reasons[code], 0) + count
        if good == 0 or self.bad > self.max_share * max(self.seen, FIRST_SAMPLES):
            raise TooManyBad(self._verdict(whole_batch=good == 0, step=trainer.global_step))
        pl_module.log("train/bad_samples", float(self.bad))
        pl_module.log_dict({f"bad_samples/{reason}": float(count) for reason, count in self.counts.items()})

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"seen": self.seen, "counts": dict(self.counts), "first": dict(self.first)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Recall them."""
        self.seen, self.counts, self.first = state_dict["seen"], dict(state_dict["counts"]), dict(state_dict["first"])

    def record(self) -> dict[str, Any]:
        """For the result: samples asked for, and of the bad ones how many of each reason and the first."""
        return {
            "seen": self.seen,
            "bad": self.bad,
            "by_reason": dict(sorted(self.counts.items())),
            "first": dict(sorted(self.first.items())),
        }

    def _verdict(self, *, whole_batch: bool, step: int) -> str:
        found = "; ".join(f"{reason} {count}, first {self.first[reason]}" for reason, count in sorted(self.counts.items()))
        what = "a whole batch is bad" if whole_batch else f"more than data.max_bad_share={self.max_share}"
        return f"{self.bad} of {self.seen} samples are bad at step {step}, {what}: {found}"


def _over_ranks(counts: Tensor) -> list[int]:
    """Integer counts summed over ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(counts)
    summed: list[int] = counts.tolist()
    return summed


def _first_places(batch: Any, codes: list[int]) -> dict[int, str]:
    """Where the first sample of each of these reasons lies, in rank order, which is the stream's; every rank asks for the same."""
    if not codes:
        return {}
    reasons = batch["reason"].tolist()
    here = {code: batch["place"][reasons.index(code)] for code in codes if code in reasons}
    every: list[Any] = [here]
    if distributed.is_available() and distributed.is_initialized():
        every = [None] * distributed.get_world_size()
        distributed.all_gather_object(every, here)
    return {code: next(found[code] for found in every if code in found) for code in codes}
