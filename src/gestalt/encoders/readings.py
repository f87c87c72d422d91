"""A ViT's last block in the parts that dense readings need, and these readings: training-free,
other ways to compute the block.  B batch, T tokens, G
heads, h w patch grid, D width.

To add one: a :class:`Reading` here, with a function that computes the attention, and its row in
``READINGS`` of ``src/gestalt/tables.py``.  The laws in ``tests/gestalt/encoders/test_readings.py``
run over all rows; an equation of its own is written a second time there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.backbones import is_vit
from gestalt.tokens import Pair


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
    or a block that is not pre-norm with plain attention.
    """
    from timm.layers.attention import Attention, AttentionRope
    from timm.models.eva import EvaAttention, EvaBlock
    from timm.models.vision_transformer import Block

    if not is_vit(trunk):
        return None
    block = trunk.blocks[-1]
    known = (type(block) is Block and type(block.attn) is Attention) or (
        type(block) is EvaBlock and type(block.attn) in (EvaAttention, AttentionRope)
    )
    if not known:
        return None
    attention = block.attn
    attention_scale = getattr(block, "ls1", None) or _scaled_by(block.gamma_1)
    mlp_scale = getattr(block, "ls2", None) or _scaled_by(block.gamma_2)

    def heads(tokens: Tensor, options: Any) -> Heads:
        return _timm_heads(attention, block.norm1(tokens), rope=options.get("rope"))

    def merge(values: Tensor, tokens: Tensor) -> Tensor:
        joined = attention.norm(_join(values))
        if attention.gate is not None:
            if joined.shape[1] != tokens.shape[1]:
                raise ValueError(
                    "a gated attention cannot be read on the grid of another model; choose another "
                    "reading"
                )
            joined = joined * attention.gate(block.norm1(tokens)).sigmoid()
        return attention_scale(attention.proj(joined))

    return LastBlock(
        block,
        prefix=trunk.num_prefix_tokens,
        heads=heads,
        merge=merge,
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
    """Take apart an encoder layer of transformers' CLIP, SigLIP, AltCLIP or BLIP; None for another
    kind.
    """
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
    width = parts[0].shape[-1] // attention.num_heads
    query, key, value = (split(part, part.shape[-1] // width) for part in parts)
    return Heads(query, key, value, float(getattr(attention, "scale", width**-0.5)))


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
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (side.repeat_interleave(groups, dim=1) for side in (key, value))
    return Heads(query, key, value, scale)


NACLIP_STD = 5.0  # patches; sinahmr/NACLIP at 0cac3a6, configs/base_config.py
# beta and gamma of mc-lan/ProxyCLIP at e7b767f, proxyclip_segmentor.py
PROXY_SHIFT, PROXY_SHARPNESS = 1.2, 3.0


class Reading(NamedTuple):
    """A way to compute the last block, what a row of ``READINGS`` names.

    Attributes:
        attention: heads, grid (h, w) and the number of tokens before the patches to the attention,
            (B, G, T, T) or (T, T), rows over keys; None for ProxyCLIP's, of a proxy model.
        whole: True if the block's input is added to the attention's output and the block's MLP
            follows; False for the attention's output alone.
    """

    attention: Callable[[Heads, Pair, int], Tensor] | None
    whole: bool


def attention(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Return the softmax of the scaled products of two sides (B, G, T, d): (B, G, T, T)."""
    return (left @ right.transpose(-2, -1) * scale).softmax(dim=-1)


def _identity(heads: Heads, grid: Pair, prefix: int) -> Tensor:
    """Let each token attend to itself alone: the output is the values."""
    return torch.eye(heads.value.shape[-2], dtype=heads.value.dtype, device=heads.value.device)


def _sclip(heads: Heads, grid: Pair, prefix: int) -> Tensor:
    queries, keys = (attention(side, side, heads.scale) for side in (heads.query, heads.key))
    return queries + keys


def _naclip(heads: Heads, grid: Pair, prefix: int) -> Tensor:
    """Add exp(-d^2 / (2 std^2)) of the distance d, in patches, to the products of each two patches'
    keys.
    """
    places = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float64) for side in grid))
    near = torch.exp(-torch.cdist(places, places).square() / (2 * NACLIP_STD**2)).to(heads.key)
    products = heads.key @ heads.key.transpose(-2, -1) * heads.scale
    return (products + functional.pad(near, (prefix, 0, prefix, 0))).softmax(dim=-1)


PLAIN = Reading(
    lambda heads, grid, prefix: attention(heads.query, heads.key, heads.scale), whole=True
)
# chongzhou96/MaskCLIP at 245d31f, backbones/vit.py
MASKCLIP = Reading(_identity, whole=True)
# MaskCLIP in mc-lan/ClearCLIP at ad68a40, open_clip/transformer.py
VALUES = Reading(_identity, whole=False)
# wangf3014/SCLIP at b56bd30, clip/model.py
SCLIP = Reading(_sclip, whole=True)
# mc-lan/ClearCLIP at ad68a40, open_clip/transformer.py
CLEARCLIP = Reading(
    lambda heads, grid, prefix: attention(heads.query, heads.query, heads.scale), whole=False
)
# sinahmr/NACLIP at 0cac3a6, clip/model.py, its reduced architecture
NACLIP = Reading(_naclip, whole=False)
# mc-lan/ProxyCLIP at e7b767f, open_clip/transformer.py
PROXYCLIP = Reading(None, whole=False)


def proxy_attention(features: Tensor) -> Tensor:
    """Compute ProxyCLIP's attention from a proxy model's features (B, C, h, w): (B, 1, h w, h w).

    Similarities below beta times their mean over the image get no weight.  A location's similarity
    with itself always counts: the original gives NaN where not even that passes the limit, as in an
    image without any contrast.
    """
    unit = functional.normalize(features.flatten(2), dim=1)
    similarity = unit.transpose(1, 2) @ unit
    sharpened = (
        similarity - PROXY_SHIFT * similarity.mean(dim=(1, 2), keepdim=True)
    ) * PROXY_SHARPNESS
    itself = torch.eye(sharpened.shape[-1], dtype=torch.bool, device=sharpened.device)
    return (
        sharpened.masked_fill((sharpened < 0) & ~itself, float("-inf")).softmax(dim=-1).unsqueeze(1)
    )


@contextmanager
def read_last_block(
    block: LastBlock, reading: Reading, *, grid: Pair, features: Tensor | None = None
) -> Iterator[None]:
    """Within the context, the block computes the reading in place of itself.

    Args:
        block: last block of the tower that is called within the context.
        reading: what a row of ``READINGS`` names.
        grid: (h, w) of the images.
        features: (B, C, h', w') of a proxy model, for a reading by it; the patches then come out
            on its grid.
    """

    def replace_output(module: Any, inputs: Any, options: Any, output: Any) -> Any:
        tokens = inputs[0] if inputs else options["hidden_states"]
        heads = block.heads(tokens, options)
        if reading.attention is None:
            assert features is not None, "a reading by a proxy model needs its features"
            values = _by_proxy(heads.value, features, grid=grid, prefix=block.prefix)
        else:
            values = reading.attention(heads, grid, block.prefix) @ heads.value
        result = block.merge(values, tokens)
        if reading.whole:
            result = tokens + result
            result = result + block.feed(result)
        return (result, *output[1:]) if isinstance(output, tuple) else result

    with block.module.register_forward_hook(replace_output, with_kwargs=True):
        yield


def _by_proxy(values: Tensor, features: Tensor, *, grid: Pair, prefix: int) -> Tensor:
    """Attend over values (B, G, T, d) resized to the proxy model's grid; class and register tokens
    keep their values.
    """
    patches = values[:, :, prefix:].flatten(0, 1).transpose(1, 2)  # (B G, d, h w)
    resized = functional.interpolate(
        torch.unflatten(patches, 2, grid),
        size=features.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )
    wide = resized.flatten(2).transpose(1, 2)  # (B G, h' w', d)
    wide = torch.unflatten(wide, 0, values.shape[:2])
    return torch.cat(
        [values[:, :, :prefix], proxy_attention(features.to(wide.dtype)) @ wide], dim=2
    )
