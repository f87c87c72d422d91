"""BadSamples: counts unreadable samples by reason, over all ranks and the whole run; too many stop it.  B batch."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed

FIRST_SAMPLES = 1000
"""A run stops if more samples are bad than the allowed share of those seen, or of this number in its first steps, since the share of few
samples says little about the others.  Of fewer data it is the share of all samples: more bad ones exceed it whatever the rest holds.
"""


class TooManyBad(RuntimeError):
    """The share of bad samples exceeds ``data.max_bad_share``; the message names each reason with its first sample."""


class BadSamples(Callback):
    """Logs ``train/bad_samples``, the number so far, and ``bad_samples/<reason>``.

    Checkpoints hold the counts: a resumed run has those of an uninterrupted one.  Every run ends with a line that sums them up.

    Args:
        reasons: names of the reasons; ``reason`` of a batch is (B,) indices into them, -1 for a good sample.
        max_share: share of bad samples, [0, 1], above which the run stops.
        samples: number of samples in the data.
        mends: further text for messages about a reason, such as the key that is probably wrong.

    Attributes:
        seen: samples read, good and bad.
        counts: bad samples by reason.
        first: shard and key of the first bad sample of each reason, in the stream's order.

    Raises:
        TooManyBad: on every rank at once, before the step: the share is exceeded, or a whole batch is bad.
    """

    def __init__(
        self, reasons: tuple[str, ...], *, max_share: float, samples: int = FIRST_SAMPLES, mends: Mapping[str, str] | None = None
    ) -> None:
        self.reasons = reasons
        self.max_share = max_share
        self.first_samples = min(FIRST_SAMPLES, samples)
        self.mends = mends or {}
        self.seen = 0
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    @property
    def bad(self) -> int:
        """Number of bad samples."""
        return sum(self.counts.values())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the step's samples over all ranks, log, and stop if too many are bad."""
        good, *bad = _sum_over_ranks(torch.bincount(batch["reason"] + 1, minlength=len(self.reasons) + 1))
        self.seen += good + sum(bad)
        new = [code for code, count in enumerate(bad) if count and self.reasons[code] not in self.first]
        for code, place in _first_places(batch, new).items():
            self.first[self.reasons[code]] = place
            mend = self._mend(self.reasons[code])
            pl_module.print(f"bad sample, {self.reasons[code]}: {place}; it is left out of the loss and counted{mend}")
        for code, count in enumerate(bad):
            if count:
                self.counts[self.reasons[code]] = self.counts.get(self.reasons[code], 0) + count
        if good == 0 or self.bad > self.max_share * max(self.seen, self.first_samples):
            raise TooManyBad(self._message(whole_batch=good == 0, step=trainer.global_step))
        pl_module.log("train/bad_samples", float(self.bad))
        pl_module.log_dict({f"bad_samples/{reason}": float(count) for reason, count in self.counts.items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the summary."""
        pl_module.print(self.summary())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the summary of an interrupted run, unless the exception has it."""
        if not isinstance(exception, TooManyBad):
            pl_module.print(self.summary())

    def summary(self) -> str:
        """Return number, share and reasons of the bad samples, and where they are listed, in one line."""
        if not self.bad:
            return f"bad samples: none of {self.seen:,} read"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.counts.items()))
        listed = "the record has the first of each reason, gestalt data inspect lists all"
        return f"bad samples: {self.bad:,} of {self.seen:,} read ({self.bad / self.seen:.2%}): {reasons}; {listed}"

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"seen": self.seen, "counts": dict(self.counts), "first": dict(self.first)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.seen, self.counts, self.first = state_dict["seen"], dict(state_dict["counts"]), dict(state_dict["first"])

    def record(self) -> dict[str, Any]:
        """Return the fields of a result: samples seen, and bad ones by reason with the first of each."""
        return {
            "seen": self.seen,
            "bad": self.bad,
            "by_reason": dict(sorted(self.counts.items())),
            "first": dict(sorted(self.first.items())),
        }

    def _message(self, *, whole_batch: bool, step: int) -> str:
        counts = sorted(self.counts.items())
        reasons = "; ".join(f"{reason} {count}, first {self.first[reason]}{self._mend(reason)}" for reason, count in counts)
        of = "" if self.seen >= self.first_samples else f" of {self.first_samples:,} samples, which is"
        rule = "a whole batch is bad" if whole_batch else f"more than the share{of} data.max_bad_share={self.max_share}"
        return f"{self.bad} of {self.seen} samples are bad at step {step}, {rule}: {reasons}"

    def _mend(self, reason: str) -> str:
        return f"; {self.mends[reason]}" if reason in self.mends else ""


def _sum_over_ranks(counts: Tensor) -> list[int]:
    """Sum integer counts over ranks."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(counts)
    summed: list[int] = counts.tolist()
    return summed


def _first_places(batch: Any, codes: list[int]) -> dict[int, str]:
    """Return the place of the first sample of each reason, in rank order, which is the stream's; every rank passes the same codes."""
    if not codes:
        return {}
    reasons = batch["reason"].tolist()
    local = {code: batch["place"][reasons.index(code)] for code in codes if code in reasons}
    ranks: list[Any] = [local]
    if distributed.is_available() and distributed.is_initialized():
        ranks = [None] * distributed.get_world_size()
        distributed.all_gather_object(ranks, local)
    return {code: next(places[code] for places in ranks if code in places) for code in codes}
