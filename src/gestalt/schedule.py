"""Parameter groups, optimiser, warm-up and decay of the learning rate."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gestalt.support.names import nearest

TOWERS = ("image", "text")
HEADS = ("projection", "aggregation")
"""Parts beside a tower, under the same first name: they start from nothing, so they learn at the full rate."""

WITHOUT_DECAY = frozenset(
    {
        "cls_token",
        "reg_token",
        "dist_token",
        "mask_token",
        "pos_embed",  # timm
        "positional_embedding",  # open_clip
        "position_embeddings",  # BERT and its kin
        "relative_attention_bias",  # T5, MPNet
        "relative_position_bias_table",  # timm's Swin, BEiT
        "logit_scale",
    }
)
"""Words of a parameter's name that spare it weight decay although it may have two dimensions or more."""

BLOCK = re.compile(r"(?:^|\.)(?:blocks|block|resblocks|layers|layer|stages)\.?(\d+)\.")
"""A block of a tower, by the first number in a parameter's name: timm's ``blocks.3.``, ``stages.1.`` and ``layer2.``, BERT's ``layer.3.``,
T5's ``block.3.``, open_clip's ``resblocks.3.``"""


@dataclass(frozen=True)
class _Member:
    """One trainable parameter and where it belongs.

    Attributes:
        tower: "image", "text", or "heads" for all that is in neither.
        depth: 0 embeddings, 1 .. n the tower's blocks, n + 1 what follows them; 0 outside the towers.
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
    """Sort a model's trainable parameters into groups of one learning rate and one weight decay each.

    Weights of two and more dimensions decay, but for class tokens, position embeddings and biases (``WITHOUT_DECAY``). A tower is what is
    named ``image.`` or ``text.``, without its projection and aggregation. With ``layer_decay`` d below 1 and n blocks, block i (from 0)
    learns at d ** (n - i) of its tower's rate, the embeddings before it at d ** (n + 1), what follows the blocks at the full rate.

    Args:
        learning_rate: peak, at a scale of 1. ``image_rate`` and ``text_rate`` multiply it in the towers.
        layer_decay: in (0, 1]; 1 treats all depths alike.

    Returns:
        For an optimiser: ``params``, ``name`` ("image.block_00.decay"), ``lr``, ``weight_decay`` and ``initial_scale``, the group's share
        of the learning rate. No group is empty, and every trainable parameter is in exactly one.

    Raises:
        ValueError: a rate that is not positive, a layer decay outside (0, 1], nothing to train, or layer decay in a tower without blocks.

    Source: kahnchana/clippy at 04bf78b decays weights of two and more dimensions only; layer-wise rates: BEiT (arXiv:2106.08254).
    """
    rates = {"image": image_rate, "text": text_rate, "heads": 1.0}
    _check_rates(rates, learning_rate=learning_rate, weight_decay=weight_decay, layer_decay=layer_decay)
    groups: dict[str, dict[str, Any]] = {}
    for member in _members(model):
        name, below = _place(member, layer_decay=layer_decay)
        scale = rates[member.tower] * layer_decay**below
        decay = weight_decay if member.decays else 0.0
        group = {"params": [], "name": name, "lr": learning_rate * scale, "weight_decay": decay, "initial_scale": scale}
        groups.setdefault(name, group)["params"].append(member.parameter)
    if not groups:
        raise ValueError("nothing to train: every parameter of the model is frozen. Unfreeze a tower, or give the model a projection")
    return list(groups.values())


def build_optimizer(name: str, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float, fused: bool = True) -> Optimizer:
    """Make the optimiser of that name over groups that carry their own rate and decay.

    Args:
        fused: AdamW in torch's one kernel, on a CPU 5 times as fast for a table of word embeddings. Not for the scaled gradients of
            fp16: there a fused step un-scales them itself, after Lightning would have clipped them.

    LAMB comes without timm's own clipping at a gradient norm of 1: clipping is the trainer's, for every optimiser.

    Raises:
        ValueError: no optimiser has that name.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=fused)
    if name == "lamb":
        from timm.optim.lamb import Lamb

        return Lamb(groups, betas=betas, eps=eps, max_grad_norm=None)
    raise ValueError(f"optimizer.name {name!r} is unknown: {nearest(name, ('adamw', 'lamb'))}")


def warmup_cosine(step: int, *, warmup: int, total: int, final: float = 0.0) -> float:
    """Factor on the learning rate at a step counted from 0: a straight line to 1, then half a cosine down to ``final``, and constant after.

    Args:
        step: optimiser steps taken so far.
        warmup: steps of the line; the first has 1 / warmup, the last 1. 0 starts at 1.
        total: the step from which the factor is ``final``.
        final: in [0, 1].

    Raises:
        ValueError: a warm-up that is negative or longer than the run, a run of no step, or ``final`` outside [0, 1].
    """
    if not 0 <= warmup <= total or total < 1:
        raise ValueError(f"optimizer.warmup_steps={warmup}: the run has {total} steps; choose 0 to {total}")
    if not 0 <= final <= 1:
        raise ValueError(f"optimizer.final_rate is {final}: it is a share of the learning rate, in [0, 1]")
    if step < warmup:
        return (step + 1) / warmup
    if step >= total:
        return final
    progress = (step - warmup) / (total - warmup)  # [0, 1)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def _check_rates(rates: dict[str, float], *, learning_rate: float, weight_decay: float, layer_decay: float) -> None:
    """Refuse rates that train nothing or backwards."""
    for key, rate in {"learning_rate": learning_rate, "image_rate": rates["image"], "text_rate": rates["text"]}.items():
        if not rate > 0:
            raise ValueError(f"optimizer.{key} is {rate}: it must be positive. To keep a tower as it is, set image.frozen or text.frozen")
    if weight_decay < 0:
        raise ValueError(f"optimizer.weight_decay is {weight_decay}: it must not be negative")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"optimizer.layer_decay is {layer_decay}: it must be above 0 and at most 1, where 1 treats all layers alike")


def _members(model: nn.Module) -> Iterator[_Member]:
    """Every trainable parameter, with its tower, depth and decay. Depths count frozen blocks too."""
    names = [name for name, _ in model.named_parameters()]
    depths: dict[str, tuple[int, int]] = {}
    for tower in TOWERS:
        depths.update(_depths([name for name in names if _tower(name) == tower]))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth, top = depths.get(name, (0, 0))
            decays = parameter.ndim >= 2 and WITHOUT_DECAY.isdisjoint(name.split("."))
            yield _Member(parameter, decays=decays, tower=_tower(name), depth=depth, top=top)


def _tower(name: str) -> str:
    """The tower that a parameter belongs to, by its name; "heads" for none."""
    first, _, rest = name.partition(".")
    return first if first in TOWERS and rest.partition(".")[0] not in HEADS else "heads"


def _depths(names: list[str]) -> dict[str, tuple[int, int]]:
    """Depth and top of each of a tower's parameters, which come in the order of definition: what precedes the first block is embedding."""
    blocks = {name: int(match[1]) for name in names if (match := BLOCK.search(name))}
    numbers = sorted(set(blocks.values()))  # ResNet's stages count from 1
    top = len(numbers) + 1
    depths: dict[str, tuple[int, int]] = {}
    begun = False
    for name in names:
        begun = begun or name in blocks
        depths[name] = (numbers.index(blocks[name]) + 1 if name in blocks else top * begun, top)
    return depths


def _place(member: _Member, *, layer_decay: float) -> tuple[str, int]:
    """Name of the group that a parameter goes to, and how many layers lie between it and its tower's end.

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
