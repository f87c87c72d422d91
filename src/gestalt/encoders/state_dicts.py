"""Files of tensors, read without running code from them, and loaded into models: names and shapes
must be those of the model.
"""

import errno
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.support.files import Strange, check_folder, check_regular

StateDict = Mapping[str, Tensor]
"""Tensors of a model by name."""

CUT, AGAIN = "damaged, truncated, or not a file of weights", "copy or download it again"
LOADED = (".bin", ".pt", ".pth", ".safetensors")
OTHER_PROGRAMS = {"onnx", "openvino"}  # folders
WRAPPERS = ("state_dict", "model", "teacher")
PREFIXES = ("module.", "teacher.", "backbone.")
MEND = "only tensors are read, never code: save its state_dict() by torch.save or as safetensors"
MAX_LETTERS = 300
"""Most characters quoted of another library's message, which may have a line for each tensor."""


def load_weights(
    model: nn.Module, weights: StateDict, *, misfit: str, without: tuple[str, ...] = ()
) -> None:
    """Load all weights of a model, in place: those of its names and no others, of its shapes, of
    any shape where it has an empty tensor, and none of integers in place of fractions.  Of tensors
    that it ties, one suffices.

    Args:
        model: to be loaded into.
        weights: its parameters and buffers, by name.
        misfit: beginning of the message if they are not those of the model.
        without: names that they may lack.

    Raises:
        ValueError: keys are missing, unexpected, of another shape or of integers; the message names
            them.
    """
    state = model.state_dict()
    given = {state[name].data_ptr() for name in weights if name in state}
    both = [key for key in state.keys() & weights.keys() if state[key].numel()]
    problems = {
        "missing": [
            name
            for name, tensor in state.items()
            if name not in weights and name not in without and tensor.data_ptr() not in given
        ],
        "unexpected": weights.keys() - state.keys(),
        "of another shape": [
            f"{key} {tuple(weights[key].shape)} for {tuple(state[key].shape)}"
            for key in both
            if weights[key].shape != state[key].shape
        ],
        "of integers": [
            f"{key} {weights[key].dtype}"
            for key in both
            if state[key].is_floating_point() and not weights[key].is_floating_point()
        ],
    }
    listed = [
        f"{len(keys)} {kind}: {', '.join(sorted(keys)[:8])}"
        f"{f' and {len(keys) - 8} more' if len(keys) > 8 else ''}"
        for kind, keys in problems.items()
        if keys
    ]
    if listed:
        raise ValueError(f"{misfit}: {'; '.join(listed)}")
    model.load_state_dict(weights, strict=False)


def unwrap(state: Mapping[str, Any], *, source: str) -> StateDict:
    """Return the model's state dict of a training checkpoint, without wrappers and without prefixes
    that all but a head's keys share.

    Raises:
        ValueError: more than one model, or no tensors.
    """
    while inner := [key for key in WRAPPERS if isinstance(state.get(key), Mapping)]:
        if len(inner) > 1:
            raise ValueError(
                f"{source} holds {' and '.join(inner)}: save one of them to a separate file"
            )
        state = state[inner[0]]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"{source} holds no tensors, only {', '.join(map(str, list(state)[:5])) or 'no keys'}: "
            "expected a state dict"
        )
    for prefix in PREFIXES:
        if all(key.startswith((prefix, "head.")) for key in tensors):
            tensors = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
    return tensors


def read_state_dict(path: Path, *, verified: bool = False) -> Mapping[str, Any]:
    """Read a state dict, without running code from the file.

    Args:
        path: the file.
        verified: True if the file is known to be whole, by its hash; its checksums are not read.

    Raises:
        ValueError: not readable, damaged, or not a state dict.
    """
    try:
        check_regular(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about files that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
        if not verified and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch does not compare checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(damaged)
    except Exception as cause:  # pickle, zip and safetensors raise different errors
        raise ValueError(f"{path} cannot be read as a state dict: {unreadable(cause)}") from cause
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a state dict")
    return content


def check_weights(place: Path) -> None:
    """Check what another library loads by itself: a file of weights, or a folder with some.

    Raises:
        ValueError: a file that is not a regular one, weights that are damaged or not tensors alone,
            or integers in place of fractions; names the file.
    """
    files = [place]
    if place.is_dir():
        check_folder(place)
        found = [path for path in sorted(place.rglob("*model*")) if path.suffix in LOADED]
        # safetensors are preferred, and files for other programs are not loaded
        files = [
            path
            for path in found
            if not OTHER_PROGRAMS & {*path.relative_to(place).parts}
            and (path.suffix == ".safetensors" or not any(path.parent.glob("*.safetensors")))
        ]
    elif place.suffix not in LOADED:
        check_regular(place)
        return
    for file in files:
        for name, value in unwrap(read_state_dict(file), source=str(file)).items():
            if name.endswith(("weight", "bias")) and not value.is_floating_point():
                raise ValueError(
                    f"{file}: {name} holds integers ({value.dtype}); save it as float32"
                )


def unreadable(error: BaseException) -> str:
    """Return why a file of weights cannot be read, and the fix; torch's own message advises running
    the code in the file.
    """
    wanted = re.search(r"GLOBAL (\S+)|(TorchScript)", str(error))
    if wanted:
        return f"it holds more than tensors, reading it would run {wanted[1] or wanted[2]}; {MEND}"
    if isinstance(error, pickle.UnpicklingError):
        return f"truncated, or it holds more than tensors; {MEND}"
    if isinstance(error, Strange):
        return str(error)
    if isinstance(error, FileNotFoundError):  # safetensors' own gives no reason
        return "No such file or directory"
    # EINVAL: torch seeks beyond the end of a cut file
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return str(error.strerror)
    return f"{CUT} ({type(error).__name__}); {AGAIN}"


def cause(error: Exception, *, hub: str = "") -> str:
    """Return the error of a library that loads a model, in one line of bounded length.

    Args:
        error: error of torch, safetensors, transformers or the hub's client.
        hub: why the hub cannot be reached, if it cannot.
    """
    words = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) or any(
        sign in words for sign in ("weights_only", "deserializing", "PytorchStreamReader")
    ):
        return f"its weights: {unreadable(error)}"
    if "trust_remote_code" in words:
        return (
            "it asks to run its own code, which is never done; choose a model of the library's "
            "own classes"
        )
    if hub and re.search("connect|download|offline", words):
        return (
            f"it needs files of the hub, and {hub}; load it once where the hub can be reached, or "
            "name a folder that has them"
        )
    kind = (
        ""
        if isinstance(error, RuntimeError | OSError | UserWarning | ValueError)
        else f" ({type(error).__name__})"
    )
    return f"{words[:MAX_LETTERS]}{kind}".strip()
