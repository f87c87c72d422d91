"""Schedule: parameter groups, optimiser, and schedules by step of the learning rate and other numbers."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gestalt.support.names import nearest

TOWERS = ("image", "text")
HEADS = ("projection", "aggregation")
"""Modules after a tower, under the same first name; never pretrained, so they learn at the full rate."""

WITHOUT_DECAY = frozenset(
    {
        "cls_token",
        "reg_token",
        "dist_token",
        "mask_token",
        "pos_embed",  # timm
        "positional_embedding",  # open_clip
        "position_embeddings",  # BERT
        "relative_attention_bias",  # T5, MPNet
        "relative_position_bias_table",  # timm's Swin, BEiT
        "logit_scale",
    }
)
"""Parts of a parameter's name that exempt it from weight decay, although it may have two dimensions or more."""

BLOCK = re.compile(r"(?:^|\.)(?:blocks|block|resblocks|layers|layer|stages)\.?(\d+)\.")
"""Matches a block's number in a parameter's name: timm's ``blocks.3.``, ``stages.1.`` and ``layer2.``, BERT's ``layer.3.``,
T5's ``block.3.``, open_clip's ``resblocks.3.``"""


@dataclass(frozen=True)
class _Member:
    """A trainable parameter and its place in the model.

    Attributes:
        decays: True if weight decay applies.
        tower: "image", "text", or "heads" outside both.
        depth: 0 for embeddings, 1 .. n for the tower's blocks, n + 1 after them; 0 outside the towers.
        top: n + 1; 0 outside the towers.
    """

    parameter: nn.Parameter
    decays: bool
    tower: str
    depth: int
    top: int


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    image_rate: float = 1.0,
    text_rate: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Group a model's trainable parameters by learning rate and weight decay.

    Weights of two or more dimensions decay, except class tokens, position embeddings and biases (``WITHOUT_DECAY``). A tower is every
    parameter under ``image.`` or ``text.``, without projection and aggregation. With layer decay d and n blocks, block i (from 0) learns
    at d ** (n - i) of its tower's rate, the embeddings at d ** (n + 1), and the layers after the blocks at the full rate.

    Args:
        learning_rate: peak.
        image_rate, text_rate: factors on the learning rate of a tower.
        layer_decay: in (0, 1]; 1 gives every depth the same rate.

    Returns:
        Groups for an optimiser: ``params``, ``name`` ("image.block_00.decay"), ``lr``, ``weight_decay`` and ``initial_scale``, the group's
        share of the learning rate. No group is empty, and every trainable parameter is in exactly one.

    Raises:
        ValueError: a rate that is not positive, a layer decay outside (0, 1], nothing to train, or layer decay in a tower without blocks.

    Source: kahnchana/clippy at 04bf78b decays weights of two and more dimensions only; layer-wise rates: BEiT (arXiv:2106.08254).
    """
    rates = {"image": image_rate, "text": text_rate, "heads": 1.0}
    _check_rates(rates, learning_rate=learning_rate, weight_decay=weight_decay, layer_decay=layer_decay)
    groups: dict[str, dict[str, Any]] = {}
    for member in _members(model):
        name, layers_above = _group_of(member, layer_decay=layer_decay)
        scale = rates[member.tower] * layer_decay**layers_above
        decay = weight_decay if member.decays else 0.0
        group = {"params": [], "name": name, "lr": learning_rate * scale, "weight_decay": decay, "initial_scale": scale}
        groups.setdefault(name, group)["params"].append(member.parameter)
    if not groups:
        raise ValueError("nothing to train: every parameter of the model is frozen. Unfreeze a tower, or give the model a projection")
    return list(groups.values())


def build_optimizer(name: str, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float, fused: bool = True) -> Optimizer:
    """Build an optimiser by name: "adamw", or "lamb" without timm's own gradient clipping, which is the trainer's task.

    Args:
        groups: see ``parameter_groups``.
        fused: use AdamW's fused kernel, on a CPU 5 times as fast for a table of word embeddings. Not with fp16's gradient scaler: the
            fused step unscales gradients itself, after clipping.

    Raises:
        ValueError: unknown name.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=fused)
    if name == "lamb":
        from timm.optim.lamb import Lamb

        return Lamb(groups, betas=betas, eps=eps, max_grad_norm=None)
    raise ValueError(f"optimizer.name {name!r} is unknown: {nearest(name, ('adamw', 'lamb'))}")


def clipped_in_step(optimizer: Optimizer, *, norm: Tensor, largest: float) -> bool:
    """Let a fused step clip the gradients by their norm, which saves a pass over them.  Returns False if the step cannot.

    The step divides gradients by ``grad_scale``, which PyTorch's gradient scaler sets too.  It is float32: float64 is clipped elsewhere.
    """
    if not optimizer.defaults.get("fused") or norm.dtype == torch.float64:
        return False
    optimizer.grad_scale = ((norm + 1e-6) / largest).clamp(min=1).float()  # type: ignore[attr-defined]  # as torch's clip_grad_norm_
    return True


def warmup_cosine(step: int, *, warmup: int, total: int, final: float = 0.0) -> float:
    """Return the factor on the learning rate: linear warm-up to 1, half a cosine down to ``final``, then constant.

    Args:
        step: optimiser steps taken so far, from 0.
        warmup: steps of warm-up, from 1 / warmup to 1; 0 starts at 1.
        total: step from which the factor is ``final``.
        final: in [0, 1].

    Raises:
        ValueError: a warm-up that is negative or longer than the run, a run without steps, or ``final`` outside [0, 1].
    """
    if not 0 <= warmup <= total or total < 1:
        raise ValueError(f"optimizer.warmup_steps={warmup}: the run has {total} steps; choose 0 to {total}")
    if not 0 <= final <= 1:
        raise ValueError(f"optimizer.final_rate is {final}: choose a share of the learning rate, in [0, 1]")
    if step < warmup:
        return (step + 1) / warmup
    return final if step >= total else half_cosine(step - warmup, start=1.0, end=final, total=total - warmup)


def half_cosine(step: int, *, start: float, end: float, total: int) -> float:
    """Go from ``start`` at step 0 along half a cosine to ``end`` at step ``total``; constant after.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.2, for the teacher's momentum, and its implementation details for weight decay.
    """
    progress = min(step, total) / total
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _check_rates(rates: dict[str, float], *, learning_rate: float, weight_decay: float, layer_decay: float) -> None:
    """Check that rates are positive, weight decay is not negative and layer decay is in (0, 1]."""
    for key, rate in {"learning_rate": learning_rate, "image_rate": rates["image"], "text_rate": rates["text"]}.items():
        if not rate > 0:
            raise ValueError(f"optimizer.{key} is {rate}: it must be positive. To freeze a tower, set image.frozen or text.frozen")
    if weight_decay < 0:
        raise ValueError(f"optimizer.weight_decay is {weight_decay}: it must not be negative")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"optimizer.layer_decay is {layer_decay}: it must be above 0 and at most 1; 1 gives every layer the same rate")


def _members(model: nn.Module) -> Iterator[_Member]:
    """Yield every trainable parameter with its tower, depth and decay; depths count frozen blocks too."""
    names = [name for name, _ in model.named_parameters()]
    depths: dict[str, tuple[int, int]] = {}
    for tower in TOWERS:
        depths.update(block_depths([name for name in names if _tower(name) == tower]))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth, top = depths.get(name, (0, 0))
            decays = parameter.ndim >= 2 and WITHOUT_DECAY.isdisjoint(name.split("."))
            yield _Member(parameter, decays=decays, tower=_tower(name), depth=depth, top=top)


def _tower(name: str) -> str:
    """Return the tower of a parameter by its name; "heads" outside both."""
    first, _, rest = name.partition(".")
    return first if first in TOWERS and rest.partition(".")[0] not in HEADS else "heads"


def block_depths(names: list[str]) -> dict[str, tuple[int, int]]:
    """Return (depth, top) of each parameter of a tower, given in order of definition: those before the first block are embeddings."""
    blocks = {name: int(match[1]) for name in names if (match := BLOCK.search(name))}
    numbers = sorted(set(blocks.values()))  # ResNet's stages count from 1
    top = len(numbers) + 1
    depths: dict[str, tuple[int, int]] = {}
    outside = 0  # depth of parameters in no block: 0 before the first, top after it
    for name in names:
        outside = top if name in blocks else outside
        depths[name] = (numbers.index(blocks[name]) + 1 if name in blocks else outside, top)
    return depths


def _group_of(member: _Member, *, layer_decay: float) -> tuple[str, int]:
    """Return the name of a parameter's group, and the number of layers above it in its tower.

    Raises:
        ValueError: layer decay in a tower without blocks.
    """
    kind = "decay" if member.decays else "no_decay"
    if layer_decay == 1 or not member.top:
        return f"{member.tower}.{kind}", 0
    if member.top == 1:
        raise ValueError(f"optimizer.layer_decay is {layer_decay}, but the {member.tower} tower has no numbered blocks: set it to 1")
    layer = "embeddings" if member.depth == 0 else "top" if member.depth == member.top else f"block_{member.depth - 1:02d}"
    return f"{member.tower}.{layer}.{kind}", member.top - member.depth
