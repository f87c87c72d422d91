"""FLOP of a training step: counted at small batches, and extended to the batch of the run.

torch counts matrix products, convolutions and attention, forward and backward, with a multiplication and an addition as two FLOP.
Elementwise operations and the optimiser's update are not counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count FLOP.  Attention is computed as plain matrix products meanwhile, because torch does not count its fused CPU kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


class FlopProbe(Callback):
    """A counter of the FLOP of each step's forward and backward pass.

    Attributes:
        counts: pairs of a batch -> FLOP of the last step with so many pairs.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._open = ExitStack()
        self._counter = FlopCounterMode(display=False)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start counting."""
        self._counter = self._open.enter_context(counting())

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop counting."""
        self._open.close()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the count."""
        self.counts[len(batch["text"])] = self._counter.get_total_flops()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop counting: the counter is active in the whole process."""
        self._open.close()


def extended(counts: Mapping[int, int], *, pairs: int) -> int:
    """Return the FLOP of a step with more pairs, by the polynomial through the counts.

    Towers cost a fixed amount for each pair, the loss one for each image and text, and the texts of nouns one for each step, so that three
    counts give every batch size.  The similarities that a large loss computes again in blocks are not included.

    Raises:
        ValueError: fewer than three counts.
    """
    if len(counts) < 3:
        raise ValueError(f"FLOP were counted for {len(counts)} batch sizes, and the polynomial needs 3")
    total = Fraction(0)
    for size, count in counts.items():
        share = Fraction(count)
        for other in counts:
            if other != size:
                share *= Fraction(pairs - other, size - other)
        total += share
    return round(total)


def operations(flop: float) -> str:
    """Format FLOP."""
    for unit, factor in (("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if flop >= factor:
            return f"{flop / factor:,.4g} {unit}"
    return f"{flop / 10**9:,.4g} GFLOP"


def equal_steps(steps: int, *, flop: int, of: int) -> int:
    """Return the number of steps of ``of`` FLOP that cost the same as ``steps`` of ``flop``, at least 1."""
    return max(1, round(Fraction(steps * flop, of)))
