"""Find devices and types of weights by name, move tensors between devices, and keep torch's random
state.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device of this machine.  None selects the GPU, or the CPU if torch can use no GPU.

    Raises:
        ValueError: this machine has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device={device}: torch has no such device on this machine; choose cpu"
        ) from error
    return place


def find_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a type of weights by name.

    Raises:
        ValueError: the type is not a floating-point type.
    """
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype={dtype}: choose float32, bfloat16, float16 or float64")
    return kind


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting.  Copies from the CPU go through pinned memory,
    from which CUDA copies asynchronously.
    """
    pinned = (
        tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    )
    return pinned.to(device, non_blocking=True)


def on_host(*tensors: Tensor) -> list[Tensor]:
    """Copy tensors from one device to the CPU in a single transfer, so that the host waits only
    once. Tensors on the CPU are returned unchanged.
    """
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    parts = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    copied = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])
    return [
        part.clone().view(tensor.dtype).reshape(tensor.shape)  # memory that fits the type
        for part, tensor in zip(copied, tensors, strict=True)
    ]


def occurring(values: Tensor, bins: int) -> Tensor:
    """Return which integers in [0, bins) occur, (bins,) bool on the device of the values.  The host
    does not wait for the result.
    """
    occurs = torch.zeros(bins, dtype=torch.bool, device=values.device)
    return occurs.index_fill_(0, values.flatten().long(), True)


def ranks_among(values: Tensor, occurs: Tensor) -> Tensor:
    """Return the rank of each value among the values that occur, int64."""
    return (occurs.cumsum(0) - 1)[values.int()]


def bin_counts(values: Tensor, bins: int) -> Tensor:
    """Count integers in [0, bins).  Returns (bins,) int64 on their device.  Unlike with
    ``torch.bincount``, the host does not wait.
    """
    values = values.flatten().long()
    return values.new_zeros(bins).scatter_add_(0, values, torch.ones_like(values))


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore torch's random state at the end of the block, on the GPUs too if they are in use."""
    used = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(used)):
        yield


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context without autocast.  If autocast is off, torch's context is avoided: entering
    it takes 8 microseconds, which matters for small batches.
    """
    return torch.autocast(device_type, enabled=False) if autocasting(device_type) else nullcontext()


def autocasting(device_type: str) -> bool:
    """Return True if autocast is on for a type of device; False for meta tensors."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)
