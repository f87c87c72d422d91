"""Schedule: parameter groups, optimiser, and schedules by step of the learning rate and other
numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.encoders.boundary import block_depths
from gestalt.training.keys import Optimizer as OptimizerKeys

Group = dict[str, Any]
"""A group of parameters, as torch's optimisers take it."""

PAPER = OptimizerKeys()
"""The keys of the paper's optimiser."""

TOWERS = ("image", "text")
HEADS = ("projection", "aggregation")
"""Modules after a tower, under the same first name, which learn at the full rate."""

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
        "latent",  # timm's attention pooling
        "logit_scale",
        "names",  # ClassifierProjection
    }
)
"""Parts of a parameter's name that exempt it from weight decay, although it may have two dimensions
or more.
"""


def parameter_groups(model: nn.Module, keys: OptimizerKeys) -> list[Group]:
    """Group a model's trainable parameters by learning rate and weight decay.

    Weights of two or more dimensions decay, except class tokens, position embeddings and biases
    (``WITHOUT_DECAY``). A tower is every parameter under ``image.`` or ``text.``, without
    projection and aggregation. With layer decay d and n blocks, block i (from 0) learns at d ** (n
    - i) of its tower's rate, the embeddings at d ** (n + 1), and the layers after the blocks at the
    full rate.

    Returns:
        Groups for an optimiser: ``params``, ``name`` ("image.block_00.decay"), ``lr``,
        ``weight_decay`` and ``initial_scale``, the group's share of the learning rate; for Muon
        ``use_fallback``, True but for decaying weights of the blocks. No group is
        empty, and every trainable parameter is in exactly one.

    Raises:
        ValueError: nothing to train, or layer decay in a tower without blocks.

    Source: kahnchana/clippy at 04bf78b decays weights of two and more dimensions only; layer-wise
    rates: BEiT (arXiv:2106.08254).
    """
    rates = {
        "image": keys.image_rate,
        "text": keys.text_rate,
        "names": keys.names_rate,
        "heads": 1.0,
    }
    names = [name for name, _ in model.named_parameters()]  # depths count frozen blocks too
    depths: dict[str, tuple[int, int]] = {}
    for tower in TOWERS:
        depths |= block_depths([name for name in names if _tower(name) == tower])
    groups: dict[str, Group] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        tower = _tower(name)
        decays = parameter.ndim >= 2 and WITHOUT_DECAY.isdisjoint(name.split("."))
        depth, top = depths.get(name, (0, 0))
        layer = ""
        scale = rates[tower]
        if keys.layer_decay != 1 and top:
            # 0 for embeddings, 1 .. n for the blocks, n + 1 after them
            if top == 1:
                raise ValueError(
                    f"optimizer.layer_decay is {keys.layer_decay}, but the {tower} tower has no "
                    "numbered blocks: set it to 1"
                )
            block = "top" if depth == top else f"block_{depth - 1:02d}"
            layer = f".{block if depth else 'embeddings'}"
            scale *= keys.layer_decay ** (top - depth)
        group = f"{tower}{layer}.{'decay' if decays else 'no_decay'}"
        # stems, embeddings and heads lie outside the blocks
        fallback = "muon" in keys.name and not (decays and 0 < depth < top)
        if fallback:
            group += ".fallback"
        empty = {
            "params": [],
            "name": group,
            "lr": keys.learning_rate * scale,
            "weight_decay": keys.weight_decay if decays else 0.0,
            "initial_scale": scale,
        }
        if fallback:
            empty["use_fallback"] = True
        groups.setdefault(group, empty)["params"].append(parameter)
    if not groups:
        raise ValueError(
            "nothing to train: every parameter of the model is frozen. Unfreeze a tower, or give "
            "the model a projection"
        )
    return list(groups.values())


def make_optimizer(
    model: nn.Module, terms: nn.Module, *, keys: OptimizerKeys = PAPER, fused: bool = True
) -> Optimizer:
    """Build the optimiser of a model and of the terms of its loss, which learn at the full rate:
    torch's AdamW, or one of timm's, LAMB without its own gradient clipping, which is the trainer's
    task.

    Args:
        model, terms: see ``parameter_groups``.
        keys: configuration of the optimiser.
        fused: use AdamW's fused kernel, on a CPU 5 times as fast for a table of word embeddings.
            Not with fp16's gradient scaler: the fused step unscales gradients itself, after
            clipping.

    Raises:
        ValueError: nothing to train, blocks without numbers under ``layer_decay``, or nothing for
            Muon to train.
    """
    groups = parameter_groups(model, keys)
    if all("use_fallback" in group for group in groups):
        raise ValueError(
            f"optimizer.name={keys.name}: no tower has numbered blocks with matrices that are "
            "trained; choose adamw"
        )
    if any(parameter.requires_grad for parameter in terms.parameters()):
        # under a name that is no tower's
        further = parameter_groups(nn.ModuleDict({"terms": terms}), keys)
        groups += [{**group, "name": f"terms.{group['name']}"} for group in further]
    options: Group = {"betas": keys.betas}
    if keys.eps is not None:
        options["eps"] = keys.eps
    if keys.name == "adamw":
        return torch.optim.AdamW(groups, fused=fused, **options)
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

    if "lamb" in keys.name:
        options["max_grad_norm"] = None
    return create_optimizer_v2(
        groups, keys.name, lr=keys.learning_rate, weight_decay=keys.weight_decay, **options
    )


def by_step(optimizer: Optimizer, factor: Callable[[int], float]) -> OptimizerLRSchedulerConfig:
    """Return an optimiser for Lightning, whose learning rates are multiplied by a factor of the
    step.
    """
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
    }


def clip_in_step(optimizer: Optimizer, *, norm: Tensor, largest: float) -> bool:
    """Let a fused step clip the gradients by their norm, which saves a pass over them.  Returns
    False if the step cannot.

    The step divides gradients by ``grad_scale``, which PyTorch's gradient scaler sets too.  It is
    float32: float64 is clipped elsewhere.
    """
    if not optimizer.defaults.get("fused") or norm.dtype == torch.float64:
        return False
    optimizer.grad_scale = ((norm + 1e-6) / largest).clamp(min=1).float()  # type: ignore[attr-defined]  # 1e-6: as in torch
    return True


def rate_factor(step: int, *, keys: OptimizerKeys, total: int, planned: int = 0) -> float:
    """Return the factor on the learning rate by the schedule of a configuration: a linear warm-up
    from 1 / ``warmup_steps`` to 1, then half a cosine down to ``final_rate``, 1, or 1 with a line
    down to ``final_rate`` at the end.

    Args:
        step: optimiser steps taken so far, from 0.
        keys: schedule, warm-up, cooldown and final rate.
        total: steps of the run, after which the factor is constant.
        planned: steps that a Trainer takes instead, to which the whole schedule is stretched; 0 for
            ``total``.

    Raises:
        ValueError: a run without steps, a warm-up that is negative or longer than the run, or a
            cooldown that does not fit after it.

    Source: open_clip's ``const_lr`` and ``const_lr_cooldown``, with power 1.
    """
    warmup = keys.warmup_steps
    cooldown = keys.cooldown_steps or 0
    longest = total - warmup
    if longest < 0 or warmup < 0 or total < 1:
        raise ValueError(
            f"optimizer.warmup_steps={warmup}: the run has {total} steps; choose 0 to {total}"
        )
    if cooldown > longest:
        raise ValueError(
            f"optimizer.cooldown_steps={cooldown}: the run has {longest} steps after its warm-up; "
            f"choose at most {longest}"
        )
    step = step * total // (planned or total)
    if step < warmup:
        return (step + 1) / warmup
    if keys.schedule == "cosine":
        return half_cosine(step - warmup, start=1.0, end=keys.final_rate, total=longest)
    left = min(1.0, max(0, total - step) / cooldown) if cooldown else 1.0
    return keys.final_rate + (1 - keys.final_rate) * left


def half_cosine(step: int, *, start: float, end: float, total: int) -> float:
    """Go from ``start`` at step 0 along half a cosine to ``end`` at step ``total``; constant after.

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.2, for the teacher's momentum, and its
    implementation details for weight decay.
    """
    progress = min(step, total) / total if total else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _tower(name: str) -> str:
    """Return the tower of a parameter by its name; outside both "names" for those of a classifier,
    else "heads".
    """
    if name == "image.projection.names":
        return "names"
    first, _, rest = name.partition(".")
    return first if first in TOWERS and rest.partition(".")[0] not in HEADS else "heads"
