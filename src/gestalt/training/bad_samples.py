"""BadSamples: counts unreadable samples by reason, over all ranks and the whole run; too many stop
it.  The columns that captions are drawn from are counted with them.  B batch.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gestalt.support.faults import StoppedRun
from gestalt.support.ranks import objects_of_ranks, world_size
from gestalt.training.finite import is_logging_step

FIRST_SAMPLES = 1000
"""A run stops if the bad samples exceed the allowed share of the samples seen.  Until this many are
seen, the share is taken of this number, since few samples say little about the rest; if the data
have fewer, it is taken of all of them.
"""


class TooManyBad(StoppedRun):
    """The share of bad samples exceeds ``data.max_bad_share``; the message names each reason with
    its first sample.
    """


class BadSamples(Callback):
    """Logs ``train/bad_samples``, the number so far, and ``bad_samples/<reason>``.

    A single rank checks each step.  Several gather their counts at the steps that are logged, and
    before a validation or a checkpoint, and then check step by step.  They are counted on the host,
    from the places and reasons in a batch.  Checkpoints hold the counts: a resumed run has
    those of an uninterrupted one.  Every run ends with a line that sums them up.

    Args:
        reasons: names of the reasons; ``reason`` of a batch has B indices into them, -1 for a good
            sample.
        max_share: share of bad samples, [0, 1], above which the run stops.
        samples: number of samples in the data.
        hints: further text for messages about a reason, such as the key that is probably wrong.

    Attributes:
        seen: samples read, good and bad.
        counts: bad samples by reason.
        first: shard and key of the first bad sample of each reason, in the stream's order.
        drawn: captions by the column of a table that they were drawn from.

    Raises:
        TooManyBad: on every rank at once; the message names the first step at which the share is
            exceeded or a whole batch is bad.  A single rank stops before that step.
    """

    def __init__(
        self,
        reasons: tuple[str, ...],
        *,
        max_share: float,
        samples: int = FIRST_SAMPLES,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        self.reasons = reasons
        self.max_share = max_share
        self.first_samples = min(FIRST_SAMPLES, samples)
        self.hints = {reason: f"; {hint}" for reason, hint in (hints or {}).items()}
        self.seen = 0
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.drawn: Counter[str] = Counter()
        # step, good samples, reason and place of the bad ones, columns
        self._waiting: list[tuple[int, int, list[tuple[int, str]], Counter[str]]] = []
        self._module: LightningModule | None = None

    @property
    def bad(self) -> int:
        """Number of bad samples."""
        return self.counts.total()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the step's samples; at a step that is logged, gather them from all ranks, log, and
        stop if too many are bad.
        """
        self._module = pl_module
        places = batch["place"]
        good = places.count("")
        bad = [(code, place) for code, place in zip(batch["reason"], places, strict=True) if place]
        drawn = Counter(filter(None, batch.get("column", ())))
        self._waiting.append((trainer.global_step, good, bad, drawn))
        if world_size() == 1 or is_logging_step(trainer):
            self._judge()
        if is_logging_step(trainer):
            pl_module.log("train/bad_samples", float(self.bad))
            pl_module.log_dict(
                {f"bad_samples/{reason}": float(count) for reason, count in self.counts.items()}
            )

    def on_validation_start(self, *_: Any) -> None:
        """Count the samples of all ranks, before the weights are scored."""
        self._judge()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the samples of all ranks and print the summary."""
        self._judge()
        pl_module.print(self.summary())

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Print the summary of an interrupted run, unless the exception has it."""
        if not isinstance(exception, TooManyBad):
            pl_module.print(self.summary())

    def summary(self) -> str:
        """Return number, share and reasons of the bad samples, and where they are listed, in one
        line.
        """
        if not self.bad:
            return f"bad samples: none of {self.seen:,} read"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.counts.items()))
        return (
            f"bad samples: {self.bad:,} of {self.seen:,} read ({self.bad / self.seen:.2%}): "
            f"{reasons}; the record has the first of each reason, gestalt data inspect lists all"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of all ranks, which call this together."""
        self._judge()
        counts, drawn = dict(self.counts), dict(self.drawn)
        return {"seen": self.seen, "counts": counts, "first": dict(self.first), "drawn": drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.seen = state_dict["seen"]
        self.counts, self.first = Counter(state_dict["counts"]), dict(state_dict["first"])
        self.drawn = Counter(state_dict.get("drawn"))  # of an earlier version: none

    def record(self) -> dict[str, Any]:
        """Return the fields of a result: samples seen, and bad ones by reason with the first of
        each.
        """
        return {
            "seen": self.seen,
            "bad": self.bad,
            "by_reason": dict(sorted(self.counts.items())),
            "first": dict(sorted(self.first.items())),
            **({"drawn_columns": dict(sorted(self.drawn.items()))} if self.drawn else {}),
        }

    def _judge(self) -> None:
        """Gather the waiting steps of all ranks and count them in order; stop if too many are
        bad.
        """
        waiting = self._waiting
        self._waiting = []
        if not waiting or self._module is None:
            return
        for steps in zip(*objects_of_ranks(waiting), strict=True):
            step = steps[0][0]
            whole_batch_bad = True
            for _, good, bad, drawn in steps:  # in rank order, which is the stream's
                self.drawn += drawn
                self.seen += good + len(bad)
                whole_batch_bad = whole_batch_bad and good == 0
                for code, place in bad:
                    reason = self.reasons[code]
                    if reason not in self.first:
                        self.first[reason] = place
                        self._module.print(
                            f"bad sample, {reason}: {place}; it is left out of the loss and "
                            f"counted{self.hints.get(reason, '')}"
                        )
                    self.counts[reason] += 1
            if whole_batch_bad or self.bad > self.max_share * max(self.seen, self.first_samples):
                reasons = "; ".join(
                    f"{reason} {count}, first {self.first[reason]}{self.hints.get(reason, '')}"
                    for reason, count in sorted(self.counts.items())
                )
                of = f" of {self.first_samples:,} samples" if self.seen < self.first_samples else ""
                rule = f"more than data.max_bad_share={self.max_share}{of}"
                if whole_batch_bad:
                    rule = "a whole batch is bad"
                raise TooManyBad(
                    f"{self.bad} of {self.seen} samples are bad at step {step}, {rule}: {reasons}; "
                    "gestalt data inspect lists them"
                )
