"""A ViT's last block in the parts that dense readings need, taken from a model of timm, open_clip
or transformers.  B batch, T tokens, G heads, D width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.backbones import is_vit


class Heads(NamedTuple):
    """Queries, keys and values of one attention, after its norms and rotary embeddings.

    Attributes:
        query, key, value: (B, G, T, d).
        scale: factor of the product of queries and keys; usually d ** -0.5.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float


class LastBlock(NamedTuple):
    """The parts of a pre-norm ViT block: tokens + merge(attention), then + feed of the sum.

    Attributes:
        module: the block; its first argument is the tokens (B, T, D), its output the tokens or a
            tuple that starts with them.
        prefix: tokens before the patches: class and registers.
        heads: tokens (B, T, D) and the block's other arguments to ``Heads``.
        merge: attended values (B, G, T, d) and the block's input (B, T, D) to the branch (B, T, D):
            output projection and layer scale.
        feed: tokens (B, T, D) to the branch of the MLP, (B, T, D): norm, MLP and layer scale.
        class_token: True if the first token before the patches is a class token.
    """

    module: nn.Module
    prefix: int
    heads: Callable[[Tensor, Any], Heads]
    merge: Callable[[Tensor, Tensor], Tensor]
    feed: Callable[[Tensor], Tensor]
    class_token: bool = True


def timm_block(trunk: Any) -> LastBlock | None:
    """Take apart the last block of timm's ``VisionTransformer`` or ``Eva``; None for another model,
    or a block that is not pre-norm with plain attention: without a gate, and with as many keys as
    queries, as in the last blocks of all weights that timm publishes.
    """
    from timm.layers.attention import Attention, AttentionRope
    from timm.models.eva import EvaAttention, EvaBlock
    from timm.models.vision_transformer import Block

    if not is_vit(trunk):
        return None
    block = trunk.blocks[-1]
    attention: Any = getattr(block, "attn", None)
    known = (type(block) is Block and type(attention) is Attention) or (
        type(block) is EvaBlock and type(attention) in (EvaAttention, AttentionRope)
    )
    if not known or attention.gate is not None or getattr(attention, "num_kv_groups", 1) > 1:
        return None
    attention_scale = getattr(block, "ls1", None) or _scaled_by(block.gamma_1)
    mlp_scale = getattr(block, "ls2", None) or _scaled_by(block.gamma_2)

    return LastBlock(
        block,
        prefix=trunk.num_prefix_tokens,
        heads=lambda tokens, options: _timm_heads(
            attention, block.norm1(tokens), rope=options.get("rope")
        ),
        merge=lambda values, tokens: attention_scale(attention.proj(attention.norm(_join(values)))),
        feed=lambda tokens: mlp_scale(block.mlp(block.norm2(tokens))),
        class_token=trunk.cls_token is not None,
    )


def open_clip_block(block: Any) -> LastBlock | None:
    """Take apart a block of open_clip's transformer, whose attention is ``nn.MultiheadAttention``;
    None for another kind.
    """
    attention = getattr(block, "attn", None)
    if (
        not isinstance(attention, nn.MultiheadAttention)
        or not hasattr(block, "ln_1")
        or attention.in_proj_weight is None
    ):
        return None

    return LastBlock(
        block,
        prefix=1,
        heads=lambda tokens, options: _heads(attention, block.ln_1(tokens)),
        merge=lambda values, tokens: block.ls_1(attention.out_proj(_join(values))),
        feed=lambda tokens: block.ls_2(block.mlp(block.ln_2(tokens))),
    )


def transformers_block(layer: Any, *, prefix: int) -> LastBlock | None:
    """Take apart an encoder layer of transformers' CLIP, SigLIP, AltCLIP, BLIP or TIPSv2; None for
    another kind.
    """
    if hasattr(layer, "layer_scale1"):
        return LastBlock(
            layer,
            prefix=prefix,
            heads=lambda tokens, options: _heads(layer.attention, layer.norm1(tokens)),
            merge=lambda values, tokens: layer.layer_scale1(layer.attention.o_proj(_join(values))),
            feed=lambda tokens: layer.layer_scale2(layer.mlp(layer.norm2(tokens))),
        )
    attention: Any = getattr(layer, "self_attn", None)
    if not hasattr(layer, "layer_norm1") or not (
        hasattr(attention, "q_proj") or hasattr(attention, "qkv")
    ):
        return None
    output = attention.out_proj if hasattr(attention, "out_proj") else attention.projection

    return LastBlock(
        layer,
        prefix=prefix,
        heads=lambda tokens, options: _heads(attention, layer.layer_norm1(tokens)),
        merge=lambda values, tokens: output(_join(values)),
        feed=lambda tokens: layer.mlp(layer.layer_norm2(tokens)),
    )


def split(tokens: Tensor, heads: int) -> Tensor:
    """Split tokens (B, T, G d) into heads (B, G, T, d)."""
    return tokens.reshape(*tokens.shape[:-1], heads, -1).transpose(1, 2)


def _join(values: Tensor) -> Tensor:
    """Join heads (B, G, T, d) to (B, T, G d)."""
    return values.transpose(1, 2).flatten(2)


def _projected(attention: Any, tokens: Tensor) -> Any:
    """Return queries, keys and values, each (B, T, G d), by one layer or by three."""
    if isinstance(attention, nn.MultiheadAttention):
        joined = functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
        return joined.chunk(3, dim=-1)
    if getattr(attention, "qkv", None) is None:
        return [getattr(attention, f"{side}_proj")(tokens) for side in "qkv"]
    if getattr(attention, "q_bias", None) is None:
        return attention.qkv(tokens).chunk(3, dim=-1)
    bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    return functional.linear(tokens, attention.qkv.weight, bias).chunk(3, dim=-1)


def _heads(attention: Any, tokens: Tensor) -> Heads:
    """Return the heads of an attention before further norms and rotary embeddings."""
    parts = _projected(attention, tokens)
    count = getattr(attention, "num_heads", None) or attention.num_attention_heads
    query, key, value = (split(part, count) for part in parts)
    return Heads(query, key, value, float(getattr(attention, "scale", query.shape[-1] ** -0.5)))


def _scaled_by(gamma: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return the multiplication by a layer scale; identity without one."""
    return (lambda branch: branch) if gamma is None else (lambda branch: gamma * branch)


def _timm_heads(attention: Any, tokens: Tensor, *, rope: Tensor | None) -> Heads:
    """Compute queries, keys and values as timm's ``Attention``, ``AttentionRope`` and
    ``EvaAttention`` do.
    """
    from timm.layers.pos_embed_sincos import apply_rot_embed_cat

    query, key, value, scale = _heads(attention, tokens)
    query, key = attention.q_norm(query), attention.k_norm(key)
    if rope is not None:
        prefix, half = attention.num_prefix_tokens, getattr(attention, "rotate_half", False)

        def rotated(side: Tensor) -> Tensor:
            return torch.cat(
                [side[:, :, :prefix], apply_rot_embed_cat(side[:, :, prefix:], rope, half=half)],
                dim=2,
            ).type_as(value)

        query, key = rotated(query), rotated(key)
    return Heads(query, key, value, scale)
