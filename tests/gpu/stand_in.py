"""A device that is not there: tensors that say ``cuda:0`` and compute on the CPU.

An operation that mixes such a tensor with one of the CPU fails, as it fails on CUDA, and each
operation for which the host would wait is counted by its place in the code.  This shows where
devices mix and where the host waits; it cannot show kernels, NCCL or speed.

To torch's own code the tensors are on the CPU: its guards would ask CUDA otherwise.  What it
decides by the device, ``Asked`` decides in Python.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.utils.checkpoint
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("cuda", 0)
CPU = torch.device("cpu")

READS = {  # operation: how often its CUDA implementation reads a number back
    "_local_scalar_dense": 1,
    "nonzero": 1,
    "masked_select": 1,
    "_unique2": 1,
    "unique_dim": 1,
    "unique_consecutive": 1,
    "equal": 1,
    "bincount": 2,  # the smallest and the largest
}
# by a mask: its True places are counted first
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_"}
MADE_OF_DATA = {torch.tensor, torch.as_tensor, torch.asarray}
AUTOCAST = ("autocast", "is_autocast_enabled", "get_autocast_dtype")


class OnDevice(Tensor):
    """A tensor on ``DEVICE``; ``values`` is the tensor of the CPU with its values.

    ``leaves`` of the class is True while one is copied to the host.
    """

    values: Tensor
    leaves = False
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnDevice":
        """Wrap a tensor of the CPU, whose memory is shared."""
        wrapped = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=CPU,
        )
        wrapped.values = values
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation outside of the modes."""
        return run(func, args, kwargs or {}, Counter())

    def __repr__(self) -> str:
        return f"OnDevice({self.values})"


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to a value, or to those in a list or tuple and in the lists in it."""
    if isinstance(value, list | tuple):
        return type(value)([mapped(function, part) for part in value])
    return function(value)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors among values and the lists in them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def on_device(value: Any) -> Any:
    """Return a tensor of the CPU as it would be on the device, and anything else as it is."""
    plain = isinstance(value, Tensor) and not isinstance(value, OnDevice)
    return OnDevice(value.detach()) if plain else value


def on_cpu(value: Any) -> Any:
    """Return the values of a tensor of the device, and anything else as it is."""
    return value.values if isinstance(value, OnDevice) else value


def run(func: Any, args: Any, kwargs: dict[str, Any], places: Counter[str]) -> Any:
    """Run an operation on the values, and return its results where CUDA would have them."""
    name = func.overloadpacket.__name__
    tensors = list(tensors_in([args, list(kwargs.values())]))
    there = any(isinstance(tensor, OnDevice) for tensor in tensors)
    wanted = kwargs.get("device")
    if name in COPIES:
        source = args[1] if name == "copy_" else args[0]
        # autograd names the device of the tensor that it casts, which to it is the CPU
        stays = name == "copy_" or wanted is None or (wanted.type == "cpu" and not OnDevice.leaves)
        goes = isinstance(args[0], OnDevice) if stays else wanted.type == "cuda"
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and True in args[2:]))
        note(places, name, int(waits and isinstance(source, OnDevice) != goes))
    else:
        goes = there or (wanted is not None and wanted.type == "cuda")
    if there and name not in COPIES:
        indices = list(tensors_in(args[1])) if name in INDEXING else []
        note(places, name, READS.get(name, sum(index.dtype == torch.bool for index in indices)))
        # indices, and tensors without axes, may be on the CPU
        allowed = {id(index) for index in indices}
        mixed = [
            tuple(tensor.shape)
            for tensor in tensors
            if not isinstance(tensor, OnDevice) and tensor.dim() > 0 and id(tensor) not in allowed
        ]
        if mixed:
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found at least two "
                f"devices, {DEVICE} and cpu; those on the cpu have the shapes {mixed}"
            )
    values = {key: mapped(on_cpu, value) for key, value in kwargs.items()}
    if wanted is not None:
        values["device"] = CPU
    found = func(*mapped(on_cpu, args), **values)
    if not goes:
        return args[0] if name == "copy_" else found
    return return_and_correct_aliasing(func, args, kwargs, mapped(on_device, found))


class Places(TorchDispatchMode):
    """Runs operations, and counts those for which the host waits."""

    def __init__(self, places: Counter[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, self.places)


class Asked(TorchFunctionMode):
    """Says what torch's own code decides by the device of a tensor: where a tensor is made of data
    of the host, whether it has to move, and how it is read.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args = tuple(map(named, args))
        kwargs = {key: named(value) for key, value in (kwargs or {}).items()}
        first = args[0] if args else None
        if func in MADE_OF_DATA and kwargs.get("device", CPU) != CPU:
            return func(*args, **{**kwargs, "device": CPU}).to(DEVICE)
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        if func is Tensor.is_pinned:
            return False
        if func is Tensor.cuda:
            return first.to(DEVICE, **kwargs)
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
            return first.to(args[1].device, args[1].dtype, *args[2:], **kwargs)
        if isinstance(first, OnDevice):
            return self._of_device(func, first, args, kwargs)
        return func(*args, **kwargs)

    def _of_device(self, func: Any, first: Tensor, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call a function whose first argument is on the device."""
        given = [*args[1:], *kwargs.values()]
        if func is Tensor.to and DEVICE in given:  # there already: only the type may change
            types = [value for value in given if isinstance(value, torch.dtype)]
            return func(first, *types) if types else first
        if func is Tensor.cpu or (func is Tensor.to and CPU in given):
            (dtype,) = [value for value in given if isinstance(value, torch.dtype)] or [first.dtype]
            return to_host(first, dtype, without_waiting=kwargs.get("non_blocking", False))
        if func is functional.one_hot:
            return (first.unsqueeze(-1) == torch.arange(args[1], device=DEVICE)).long()
        if func is Tensor.new_tensor:
            return torch.tensor(args[1], dtype=kwargs.get("dtype", first.dtype)).to(DEVICE)
        if func is Tensor.__setitem__ and isinstance(args[2], bool | int | float):
            number = torch.full((), args[2], dtype=first.dtype, device=DEVICE)
            return func(first, args[1], number)
        if func is Tensor.tolist:
            return to_host(first, first.dtype).tolist()
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(f"cannot convert a tensor of {DEVICE} to numpy; copy it first")
        return func(*args, **kwargs)


def to_host(tensor: Tensor, dtype: torch.dtype, *, without_waiting: bool = False) -> Tensor:
    """Copy a tensor of the device to the CPU."""
    with patch.object(OnDevice, "leaves", True):
        return torch.ops.aten._to_copy(
            tensor, device=CPU, dtype=dtype, non_blocking=without_waiting
        )


def named(value: Any) -> Any:
    """Return a device by name as torch's object, with the index that torch would ask CUDA for."""
    if isinstance(value, str | torch.device) and str(value) in ("cpu", "cuda", "cuda:0"):
        return CPU if str(value) == "cpu" else DEVICE
    return value


def note(places: Counter[str], name: str, waits: int) -> None:
    """Add waits to the count of the innermost line outside of torch."""
    if waits:
        frames = [
            frame
            for frame in traceback.extract_stack(sys._getframe(1), limit=40)
            if "/torch/" not in frame.filename and frame.filename != __file__
        ]
        places[f"{name} at {frames[-1].filename}:{frames[-1].lineno}"] += waits


@contextmanager
def pretended_gpu() -> Iterator[Counter[str]]:
    """Have the device while the block runs; gives the number of waits by place."""
    places: Counter[str] = Counter()
    with ExitStack() as stack:
        # modules take the tensors that ``Module.to`` makes, instead of their values
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        stack.enter_context(patch.object(torch.cuda, "_lazy_init", lambda: None))
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: tensor))
        for name in AUTOCAST:  # to torch these tensors are on the CPU
            stack.enter_context(patch.object(torch, name, of_cpu(getattr(torch, name))))
        # which states of random numbers activation checkpointing keeps
        stack.enter_context(
            patch.object(torch.utils.checkpoint, "_infer_device_type", lambda *_: "cpu")
        )
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(Asked())
        stack.enter_context(Places(places))
        yield places


class Pretended(CPUAccelerator):
    """Lightning's accelerator for the device."""

    def setup_device(self, device: torch.device) -> None:
        """Ask nothing of it."""


def on_the_device() -> dict[str, Any]:
    """The arguments of a Trainer that runs on the device."""
    strategy = SingleDeviceStrategy(DEVICE, accelerator=Pretended())
    return {"accelerator": "auto", "strategy": strategy}


def of_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a type of device to which ``cuda`` means the CPU."""

    def called(*args: Any, **kwargs: Any) -> Any:
        meant = {"cuda": "cpu"}
        named = {key: meant.get(value, value) for key, value in kwargs.items()}
        return function(*[meant.get(value, value) for value in args], **named)

    return called
