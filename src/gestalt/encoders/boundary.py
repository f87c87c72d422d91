"""The boundary between the first blocks of an image trunk, which may be frozen, and the rest.  B
batch, N patches, D width, h w patch grid.

Blocks are those that layer decay counts (``block_depths``): a ViT's blocks; a CNN's
stages, named ``blocks.0``, ``stages.0`` or ``layer1`` by timm.  Stem, class and register tokens and
position embeddings lie before the first block, final norms after the last.
"""

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gestalt.encoders.backbones import is_vit
from gestalt.tokens import Pair

HEADS = ("global_pool", "head")
"""Names of a timm CNN's first module after its features."""

PROBE = 2
"""Cells a side of the image on which a CNN's order of modules is checked."""


def block_count(trunk: nn.Module) -> int:
    """Return the number of blocks; 0 if none has a number."""
    return len(
        {match[1] for match in map(NUMBERED.search, dict(trunk.named_parameters())) if match}
    )


def check_boundary(trunk: Any, blocks: int, *, backbone: str, stride: Pair | None = None) -> None:
    """Check that the first ``blocks`` blocks can be frozen and, of a timm model, whose ``stride``
    is given, that the rest can be run from their output.

    Raises:
        ValueError: too many blocks, or a CNN that is not a sequence of numbered stages.
    """
    count, why = block_count(trunk), ""
    if count == 0:
        why = f"{backbone!r} has no numbered blocks; choose 0"
    elif blocks > count:
        why = f"{backbone!r} has {count} blocks; choose 0 to {count}"
    elif stride and not is_vit(trunk) and not _is_sequence(trunk, stride):
        why = f"{backbone!r} is not one sequence of stages; choose 0"
    if why:
        raise ValueError(f"image.frozen_blocks={blocks}: {why}, or image.frozen=true")


def names_below(names: Collection[str], blocks: int) -> list[str]:
    """Return, in order, the names of the parameters, buffers or modules of the first ``blocks``
    blocks and of all that comes before them.
    """
    depths = block_depths(names)
    return [name for name in names if depths[name][0] <= blocks]


def run_below(trunk: Any, pixels: Tensor, *, blocks: int) -> Tensor:
    """Return the output of the first ``blocks`` blocks for normalised pixels (B, 3, H, W).

    Returns:
        Of a ViT (B, prefix + N, D), its kept tokens where ``patch_drop.keep`` is set; of a CNN (B,
        C, h', w').
    """
    if not is_vit(trunk):
        pieces, ends = _pieces(trunk)
        return nn.Sequential(*pieces[: ends[blocks - 1]])(pixels)
    whole, norm = trunk.blocks, trunk.norm
    trunk.blocks, trunk.norm = whole[:blocks], nn.Identity()
    try:
        return trunk.forward_features(pixels)
    finally:
        trunk.blocks, trunk.norm = whole, norm


def run_above(trunk: Any, x: Tensor, *, blocks: int, grid: Pair) -> Tensor:
    """Return the trunk's features from the output of ``run_below``.

    Args:
        trunk: timm's model.
        x: the output of ``run_below``.
        blocks: number of blocks that ``x`` has passed, at least 1.
        grid: (h, w) of the whole image.
    """
    # timm has a switch of gradient checkpointing on the trunk, or on each stage
    recompute = torch.is_grad_enabled() and any(
        getattr(part, "grad_checkpointing", False) for part in (trunk, *trunk.children())
    )
    if is_vit(trunk):
        parts = list(trunk.blocks)[blocks:]
    else:
        pieces, ends = _pieces(trunk)
        parts = pieces[ends[blocks - 1] :]
    rotary = None
    if getattr(trunk, "rope", None) is not None:
        # Eva's own method gives those of the kept patches
        rotary = trunk._pos_embed(x.new_zeros(len(x), *grid, x.shape[-1]))[1]
    # other embeddings for each block
    mixed = getattr(trunk, "rope_mixed", False)
    for number, part in enumerate(parts, start=blocks):
        options = {} if rotary is None else {"rope": rotary[number] if mixed else rotary}
        x = checkpoint(part, x, use_reentrant=False, **options) if recompute else part(x, **options)
    return trunk.norm(x) if is_vit(trunk) else x


def _pieces(trunk: nn.Module) -> tuple[list[nn.Module], list[int]]:
    """Return the modules of a CNN's features in order, its stages one by one, and for each numbered
    stage how many they are up to it.
    """
    pieces: dict[str, nn.Module] = {}
    for name, child in trunk.named_children():
        if name in HEADS:
            break
        if isinstance(child, nn.Sequential) and not NUMBERED.search(f"{name}."):
            pieces |= {f"{name}.{inner}": part for inner, part in child.named_children()}
        else:
            pieces[name] = child
    ends = [end for end, name in enumerate(pieces, start=1) if NUMBERED.search(f"{name}.")]
    return list(pieces.values()), ends


@torch.no_grad()
def _is_sequence(trunk: Any, stride: Pair) -> bool:
    """True if a CNN's features are its modules one after the other, bit by bit, also where its
    weights are not drawn yet and give NaN; leaves it in eval mode.
    """
    pieces, ends = _pieces(trunk)
    if len(ends) != block_count(trunk):
        return False
    probe = torch.rand(
        1, 3, PROBE * stride[0], PROBE * stride[1], generator=torch.Generator().manual_seed(0)
    )
    trunk.eval()
    try:
        one, other = nn.Sequential(*pieces)(probe), trunk.forward_features(probe)
        return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    except (TypeError, RuntimeError):  # modules that take more than one tensor, or another shape
        return False


NUMBERED = re.compile(r"(?:^|\.)(?:blocks|block|resblocks|layers|layer|stages)\.?(\d+)\.")
"""Matches a block's number in a parameter's name: timm's ``blocks.3.``, ``stages.1.`` and
``layer2.``, BERT's ``layer.3.``, T5's ``block.3.``, open_clip's ``resblocks.3.``"""


def block_depths(names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return (depth, top) of each parameter of a tower, given in order of definition: those before
    the first block are embeddings.
    """
    blocks = {name: int(match[1]) for name in names if (match := NUMBERED.search(name))}
    numbers = sorted(set(blocks.values()))  # ResNet's stages count from 1
    top = len(numbers) + 1
    depths: dict[str, tuple[int, int]] = {}
    outside = 0  # depth of parameters in no block: 0 before the first, top after it
    for name in names:
        outside = top if name in blocks else outside
        depths[name] = (numbers.index(blocks[name]) + 1 if name in blocks else outside, top)
    return depths
