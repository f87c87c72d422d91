"""The boundary between the first blocks of an image trunk, which may be frozen, and the rest.  B batch, N patches, D width, h w patch grid.

Blocks are those that layer decay counts (``gestalt.encoders.depths``): a ViT's blocks; a CNN's stages, named ``blocks.0``, ``stages.0`` or
``layer1`` by timm.  Stem, class and register tokens and position embeddings lie before the first block, final norms after the last.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gestalt.encoders.backbones import is_vit
from gestalt.encoders.depths import BLOCK, block_depths

HEADS = ("global_pool", "head")
"""Names of a timm CNN's first module after its features."""

PROBE = 2
"""Cells a side of the image on which a CNN's order of modules is checked."""


def block_count(trunk: nn.Module) -> int:
    """Return the number of blocks; 0 if none has a number."""
    tops = {top for _, top in block_depths([name for name, _ in trunk.named_parameters()]).values()}
    return max(tops, default=1) - 1


def check_boundary(trunk: Any, blocks: int, *, backbone: str, stride: tuple[int, int]) -> None:
    """Check that the first ``blocks`` blocks can be frozen and that the rest can be run from their output.

    Raises:
        ValueError: too many blocks, or a CNN that is not a sequence of numbered stages.
    """
    count = block_count(trunk)
    if count == 0:
        raise ValueError(f"image.frozen_blocks={blocks}: timm numbers no blocks in {backbone!r}; choose 0, or image.frozen=true")
    if blocks > count:
        raise ValueError(f"image.frozen_blocks={blocks}: {backbone!r} has {count} blocks; choose 0 to {count}, or image.frozen=true")
    if not is_vit(trunk) and not _is_sequence(trunk, stride=stride):
        raise ValueError(f"image.frozen_blocks={blocks}: {backbone!r} is not one sequence of stages; choose 0, or image.frozen=true")


def freeze_below(trunk: Any, blocks: int) -> None:
    """Stop the training of the stem, of all embeddings and of the first ``blocks`` blocks, in place."""
    for name, (depth, _) in block_depths([name for name, _ in trunk.named_parameters()]).items():
        if depth <= blocks:
            trunk.get_parameter(name).requires_grad_(False)


def set_eval_below(trunk: Any, blocks: int) -> None:
    """Put the stem and the first ``blocks`` blocks into eval mode, in place."""
    if is_vit(trunk):
        above = {"blocks", "norm"}
        parts = [part for name, part in trunk.named_children() if name not in above] + list(trunk.blocks[:blocks])
    else:
        parts = _below(trunk, blocks)
    for part in parts:
        part.eval()


def frozen_state(trunk: Any, blocks: int) -> dict[str, Tensor]:
    """Return the parameters and buffers that decide the output of the first ``blocks`` blocks, by name."""
    state = trunk.state_dict()
    depths = block_depths(list(state))
    return {name: tensor for name, tensor in state.items() if depths[name][0] <= blocks}


def run_below(trunk: Any, pixels: Tensor, *, blocks: int) -> Tensor:
    """Return the output of the first ``blocks`` blocks for normalised pixels (B, 3, H, W).

    Returns:
        Of a ViT (B, prefix + N, D), its kept tokens where ``patch_drop.keep`` is set; of a CNN (B, C, h', w').
    """
    if not is_vit(trunk):
        return _through(_below(trunk, blocks), pixels)
    x = trunk.patch_embed(pixels)
    if _is_eva(trunk):
        x, rotary = trunk._pos_embed(x)  # which drops patches
        x = trunk.norm_pre(x)
    else:
        x, rotary = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(x))), None
    return _through_blocks(trunk, x, rotary, first=0, last=blocks)


def run_above(trunk: Any, x: Tensor, *, blocks: int, grid: tuple[int, int], keep: Tensor | None) -> Tensor:
    """Return the trunk's features from the output of ``run_below``.

    Args:
        trunk: as for ``run_below``.
        x: the output of ``run_below``.
        blocks: as for ``run_below``.
        grid: (h, w) of the whole image.
        keep: (B, K), the patches in ``x``, by which rotary embeddings are chosen; None if ``x`` holds all of them.
    """
    if not is_vit(trunk):
        above = _named_pieces(trunk)[len(_below(trunk, blocks)) :]
        return _through([piece for _, piece in above], x, recompute=_recomputes(trunk))
    rotary = _rotary(trunk, x, grid=grid, keep=keep) if _is_eva(trunk) else None
    normed: Tensor = trunk.norm(_through_blocks(trunk, x, rotary, first=blocks, last=len(trunk.blocks)))
    return normed


def _is_eva(trunk: Any) -> bool:
    from timm.models.eva import Eva

    return isinstance(trunk, Eva)


def _rotary(trunk: Any, x: Tensor, *, grid: tuple[int, int], keep: Tensor | None) -> Tensor | None:
    """Return Eva's rotary embeddings as its ``_pos_embed`` does, timm 1.0.20 to 1.0.31."""
    from timm.layers.pos_embed_sincos import apply_keep_indices_nlc

    if trunk.rope is None:
        return None
    rotary: Tensor = trunk.rope.get_embed(shape=grid)
    if keep is None:
        return rotary
    kept: Tensor = apply_keep_indices_nlc(x, rotary, keep)
    return kept.transpose(0, 1) if getattr(trunk, "rope_mixed", False) else kept.unsqueeze(1)


def _through_blocks(trunk: Any, x: Tensor, rotary: Tensor | None, *, first: int, last: int) -> Tensor:
    mixed = getattr(trunk, "rope_mixed", False) and rotary is not None
    for number in range(first, last):
        options = {"rope": rotary[number] if mixed and rotary is not None else rotary} if _is_eva(trunk) else {}
        x = _run(trunk.blocks[number], x, recompute=_recomputes(trunk), **options)
    return x


def _run(part: nn.Module, x: Tensor, *, recompute: bool, **options: Any) -> Tensor:
    output: Tensor = checkpoint(part, x, use_reentrant=False, **options) if recompute else part(x, **options)
    return output


def _recomputes(trunk: Any) -> bool:
    """True under gradient checkpointing, of which timm has a switch on the trunk, or on each stage."""
    return torch.is_grad_enabled() and any(getattr(part, "grad_checkpointing", False) for part in (trunk, *trunk.children()))


def _through(parts: list[nn.Module], x: Tensor, *, recompute: bool = False) -> Tensor:
    for part in parts:
        x = _run(part, x, recompute=recompute)
    return x


def _named_pieces(trunk: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules of a CNN's features in order, its stages one by one."""
    pieces: list[tuple[str, nn.Module]] = []
    for name, child in trunk.named_children():
        if name in HEADS:
            break
        numbered = {f"{name}.{inner}": part for inner, part in child.named_children()}
        inside = isinstance(child, nn.Sequential) and not BLOCK.search(f"{name}.") and any(BLOCK.search(f"{inner}.") for inner in numbered)
        pieces += numbered.items() if inside else [(name, child)]
    return pieces


def _below(trunk: nn.Module, blocks: int) -> list[nn.Module]:
    """Return the modules of a CNN up to its n-th numbered stage."""
    pieces = _named_pieces(trunk)
    numbered = [number for number, (name, _) in enumerate(pieces) if BLOCK.search(f"{name}.")]
    return [piece for _, piece in pieces[: numbered[blocks - 1] + 1]]


@torch.no_grad()
def _is_sequence(trunk: Any, *, stride: tuple[int, int]) -> bool:
    """True if a CNN's features are its modules one after the other, bit by bit."""
    pieces = _named_pieces(trunk)
    if sum(BLOCK.search(f"{name}.") is not None for name, _ in pieces) != block_count(trunk):
        return False
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, PROBE * stride[0], PROBE * stride[1], generator=generator)
    modes = {module: module.training for module in trunk.modules()}
    trunk.eval()
    try:
        return torch.equal(_through([piece for _, piece in pieces], probe), trunk.forward_features(probe))
    except (TypeError, RuntimeError):  # modules that take more than one tensor, or another shape
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
