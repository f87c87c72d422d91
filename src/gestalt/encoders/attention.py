"""Attention of the class token to the patches, in a ViT's last block.  B batch, T tokens."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def attention_of(block: nn.Module) -> Any:
    """The part of a ViT's block that forms the attention matrix, unless it is fused.

    Raises:
        ValueError: none, or more than one.
    """
    found = [module for module in block.modules() if isinstance(getattr(module, "attn_drop", None), nn.Module)]
    if len(found) != 1 or not hasattr(found[0], "fused_attn"):
        raise ValueError(f"a block of this tower ({type(block).__name__}) shows no attention matrix; choose another grouping method")
    return found[0]


def last_attention(trunk: Any, run: Callable[[], object]) -> Tensor:
    """The attention matrix of the last block during one pass, softmax and all.

    The fused kernel never forms that matrix, so it is off in this one block for this one pass.

    Args:
        trunk: one of timm's ViTs.
        run: makes the pass, in eval mode.

    Returns:
        (B, heads, T, T), rows sum to 1.

    Raises:
        ValueError: the block's attention is not one softmax over all tokens.
    """
    attention = attention_of(trunk.blocks[-1])
    caught: list[Tensor] = []
    fused, attention.fused_attn = attention.fused_attn, False
    handle = attention.attn_drop.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0]))
    try:
        run()
    finally:
        handle.remove()
        attention.fused_attn = fused
    if len(caught) != 1 or caught[0].dim() != 4:
        raise ValueError(f"a block of this tower ({type(attention).__name__}) shows no attention matrix; choose another grouping method")
    return caught[0]
