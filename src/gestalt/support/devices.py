"""Devices and types of weights, as a user names them; torch's random state."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device of this machine; None is the GPU, or the CPU where torch can use none.

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
    """Return a type of weights.

    Raises:
        ValueError: not a floating point type.
    """
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype={dtype}: choose float32, bfloat16, float16 or float64")
    return kind


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting: from the CPU through pinned memory, from which
    CUDA copies by itself.
    """
    pinned = (
        tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    )
    return pinned.to(device, non_blocking=True)


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore torch's random state at the end of the block, on the GPUs too if they are in use."""
    used = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(used)):
        yield


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context without autocast; entering torch's takes 8 microseconds, which matters at
    small batches.
    """
    return torch.autocast(device_type, enabled=False) if autocasting(device_type) else nullcontext()


def autocasting(device_type: str) -> bool:
    """Return True under autocast on a type of device; meta tensors have none."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)
