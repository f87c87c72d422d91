"""Count the operations of a training step that make the host wait for the device.

On CUDA torch reports them.  On the CPU nothing waits; the operations that would wait on CUDA are
counted as they are called.
"""

import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REPORTED = "called a synchronizing CUDA operation"
READS = {  # operation: how often its CUDA implementation reads a number back
    **dict.fromkeys(
        (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "_unique2",
            "unique_dim",
            "unique_consecutive",
            "equal",
        ),
        1,
    ),
    "bincount": 2,  # the smallest and the largest
}
# by a mask: its True places are counted first
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# functions that check without waiting on a device, or read what is never on one
NOT_ON_A_DEVICE = {"check_parts", "tokenise"}
SOURCES = tuple(str(Path(__file__).parents[2] / folder) for folder in ("src", "data_modules"))


@contextmanager
def counted(device: torch.device) -> Iterator[Counter[str]]:
    """Count by the place in the code while the block runs."""
    places: Counter[str] = Counter()
    if device.type != "cuda":
        with Called(places), CalledWithData(places):
            yield places
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places.update(f"{row.filename}:{row.lineno}" for row in caught if REPORTED in str(row.message))


class CountSteps(Callback):
    """Counts from the end of each step to the end of the next, copies of the batch and logging
    included; the first step is left out, in which the optimiser makes its state.

    Attributes:
        steps: by the place in the code, of each step from the second on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[Counter[str]] = []
        self._open: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the count of this step and open that of the next."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
        if trainer.global_step < trainer.max_steps:
            self._open = counted(self.device)
            self.steps.append(self._open.__enter__())


class Called(TorchDispatchMode):
    """Counts operations that read a value on the host, in the backward pass too."""

    def __init__(self, places: Counter[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = (
            sum(leaf.dtype == torch.bool for leaf in tree_leaves(args[1]))
            if name in INDEXING
            else 0
        )
        waits = READS.get(name, masks)
        if waits:
            _add(self.places, name, waits)
        return func(*args, **(kwargs or {}))


class CalledWithData(TorchFunctionMode):
    """Counts copies between host and device that the host waits for."""

    def __init__(self, places: Counter[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = (
            func in (torch.tensor, torch.as_tensor)
            and kwargs.get("device") is not None
            and not isinstance(args[0], Tensor)
        )
        moved = func is Tensor.to and any(
            isinstance(value, torch.device) for value in (*args, *kwargs.values())
        )
        # libraries move what is on the device already
        ours = sys._getframe(1).f_code.co_filename.startswith(SOURCES)
        read = func in (Tensor.tolist, Tensor.cpu, Tensor.numpy)
        if made or (ours and (read or (moved and not kwargs.get("non_blocking", False)))):
            _add(self.places, func.__name__, 1)
        return func(*args, **kwargs)


def _add(places: Counter[str], name: str, waits: int) -> None:
    """Add to the count of the innermost line outside torch."""
    frames = [
        frame
        for frame in traceback.extract_stack()
        if "/torch/" not in frame.filename and frame.filename != __file__
    ]
    if NOT_ON_A_DEVICE.isdisjoint(frame.name for frame in frames):
        places[f"{name} at {frames[-1].filename}:{frames[-1].lineno}"] += waits
