"""Checkpoint files into timm models: whole, by name, or not at all."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gestalt.encoders.weights import Found

WRAPPERS = ("state_dict", "model", "teacher")
PREFIXES = ("module.", "backbone.")


def load_checkpoint(model: nn.Module, found: Found) -> None:
    """Copy a file's tensors into a timm model without a classifier, in place.

    Other layouts that timm knows (original DINO, DINOv2, CLIP) are renamed by timm's own filter, which also interpolates
    position embeddings of another grid (bicubic). A classifier in the file is left out; any other difference stops.

    Raises:
        ValueError: the file cannot be read or is ambiguous; names the keys that are missing, unexpected or of another shape.
    """
    state = unwrap(_read(found), source=found.source)
    if found.in_order:
        state = in_order(state, model, source=found.source)
    heads = _classifier_prefixes(model)
    _check_patches(state, model, found=found)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, model)
    state = {key: value for key, value in state.items() if not key.startswith(heads)}
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in own.keys() & state.keys() if state[k].shape != own[k].shape]
    if missing or unexpected or shapes:
        problems = {"missing": missing, "unexpected": unexpected, "of another shape": sorted(shapes)}
        raise ValueError(
            f"{found.source} does not fit the backbone: " + "; ".join(_listed(kind, keys) for kind, keys in problems.items() if keys)
        )
    model.load_state_dict(state)


def unwrap(state: Mapping[str, Any], *, source: str) -> dict[str, Tensor]:
    """Take the one model out of a training checkpoint: named wrappers, then name prefixes that all but a head's tensors share.

    Raises:
        ValueError: more than one wrapper, or no tensors.
    """
    while inner := [key for key in WRAPPERS if isinstance(state.get(key), Mapping)]:
        if len(inner) > 1:
            raise ValueError(f"{source} holds {' and '.join(inner)}: save the one that is meant to a file of its own")
        state = state[inner[0]]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{source} holds no tensors, only {', '.join(map(str, list(state)[:5])) or 'nothing'}: a state dict is needed")
    for prefix in PREFIXES:
        body = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if body and all(key.startswith((prefix, "head.")) for key in tensors):
            tensors = body
    return tensors


def in_order(state: dict[str, Tensor], model: nn.Module, *, source: str) -> dict[str, Tensor]:
    """Rename by position: the file's tensors come in the model's order, and after them a classifier's weight and bias.

    Raises:
        ValueError: another number of tensors, or a tensor of another kind at a place.
    """
    names = list(model.state_dict())
    if len(state) != len(names) + 2:
        raise ValueError(f"{source} has {len(state)} tensors; the backbone and a classifier have {len(names) + 2}")
    for theirs, ours in zip(state, names, strict=False):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2]:  # a weight and a bias may have the same shape
            raise ValueError(f"{source} is not in the backbone's order: {theirs} stands where {ours} belongs")
    return dict(zip(names, state.values(), strict=False))


def _read(found: Found) -> Mapping[str, Any]:
    try:
        if found.path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(found.path)
        content = torch.load(found.path, map_location="cpu", weights_only=True)
    except Exception as cause:  # pickle, zip and safetensors each raise their own
        raise ValueError(f"{found.path} cannot be read as a state dict (torch, weights only) or safetensors file: {cause}") from cause
    if not isinstance(content, Mapping):
        raise ValueError(f"{found.path} holds a {type(content).__name__}: a state dict is needed")
    return content


def _classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """The names a classifier's tensors start with; "head." is also what self-distillation calls its projection head."""
    config: Any = getattr(model, "pretrained_cfg", {})
    classifier = config.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    inside = [name for name, _ in model.named_parameters()]
    return tuple(f"{name}." for name in {*names, "head"} if not any(own.startswith(f"{name}.") for own in inside))


def _check_patches(state: dict[str, Tensor], model: nn.Module, *, found: Found) -> None:
    """Refuse what timm's filter would resize without a word: patches of another size, and a grid that is not the one declared."""
    own: Any = model
    patches, positions = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patches is None or patches.ndim != 4 or not isinstance(getattr(getattr(own, "patch_embed", None), "proj", None), nn.Conv2d):
        return
    if patches.shape[-2:] != own.patch_embed.proj.weight.shape[-2:]:
        wanted = tuple(own.patch_embed.proj.weight.shape[-2:])
        raise ValueError(
            f"{found.source} has patches of {tuple(patches.shape[-2:])} pixels, the backbone of {wanted}: set image.patch_size"
        )
    if positions is not None and found.size is not None:
        count = (found.size // patches.shape[-2]) * (found.size // patches.shape[-1])
        if positions.shape[1] not in (count, count + own.num_prefix_tokens):
            raise ValueError(
                f"{found.source} has {positions.shape[1]} position embeddings; images of {found.size} pixels have {count} patches"
            )


def _listed(kind: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:8])}{more}"
