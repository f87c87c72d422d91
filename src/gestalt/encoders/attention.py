"""Attention of the class token to the patches, in a ViT's last block.  B batch, T tokens."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def attention_of(block: nn.Module) -> Any:
    """Return the attention module of a ViT's block.

    Raises:
        ValueError: the block has none that can form its matrix, or more than one.
    """
    modules = [
        module
        for module in block.modules()
        if isinstance(getattr(module, "attn_drop", None), nn.Module)
    ]
    if len(modules) != 1 or not hasattr(modules[0], "fused_attn"):
        raise ValueError(_no_matrix(block))
    return modules[0]


def last_attention(trunk: Any, run: Callable[[], object]) -> Tensor:
    """Return the attention matrix of a timm ViT's last block, after the softmax; ``run`` is a
    forward pass in eval mode.

    The fused kernel never forms the matrix: it is switched off in this block for one forward pass.

    Returns:
        (B, heads, T, T), rows sum to 1.

    Raises:
        ValueError: the block does not form one matrix over all tokens.
    """
    attention = attention_of(trunk.blocks[-1])
    matrices: list[Tensor] = []
    fused, attention.fused_attn = attention.fused_attn, False
    handle = attention.attn_drop.register_forward_hook(
        lambda module, inputs, output: matrices.append(inputs[0])
    )
    try:
        run()
    finally:
        handle.remove()
        attention.fused_attn = fused
    if len(matrices) != 1 or matrices[0].dim() != 4:
        raise ValueError(_no_matrix(attention))
    return matrices[0]


def _no_matrix(module: nn.Module) -> str:
    return (
        f"the image tower ({type(module).__name__}) does not expose its attention matrix; choose "
        "another grouping method"
    )
