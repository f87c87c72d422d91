"""Copy batches to a CUDA device on a stream of their own, so that a copy runs beside the step before it."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only


class CopyStream:
    """A CUDA stream that copies each batch to the device while earlier steps still compute.

    Batches must be in pinned memory (``pin_memory`` of the loader), from which the device copies while the host goes on.  A batch is copied
    when the trainer takes it and not earlier, so the position in the samples is the trainer's step, as without a stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(self, batch: Any) -> Any:
        """Return the batch with its tensors on the device; work queued from now on waits for the copy on the device, not on the host."""
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            moved = tree_map_only(Tensor, lambda tensor: tensor.to(self.device, non_blocking=True), batch)
        current.wait_stream(self._stream)
        tree_map_only(Tensor, lambda tensor: tensor.record_stream(current), moved)  # its memory is not reused before that work is done
        return moved
