"""Dense readings: training-free, other ways to compute a ViT's last block.  B batch, T tokens, G
heads, h w patch grid.

To add one: a :class:`Reading` here, with a function that computes the attention, and its row in
``READINGS`` of ``src/gestalt/tables.py``.  The laws in ``tests/gestalt/encoders/test_readings.py``
run over all rows; an equation of its own is written a second time there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.last_block import Heads, LastBlock
from gestalt.support.moved import forward_names
from gestalt.tokens import Pair

if not TYPE_CHECKING:  # a type checker would take any name
    __getattr__ = forward_names(__name__)

NACLIP_STD = 5.0  # patches; sinahmr/NACLIP at 0cac3a6, configs/base_config.py
# beta and gamma of mc-lan/ProxyCLIP at e7b767f, proxyclip_segmentor.py
PROXY_SHIFT, PROXY_SHARPNESS = 1.2, 3.0
AFFINITY_SCALE = 5.0  # of cosines; ours


class Windows(NamedTuple):
    """The windows of one image at the last block, what ``Reading.compute`` is given; W windows, D
    width.

    Attributes:
        tokens: (W, T, D) that enter the block: ``block.prefix`` tokens, then patches row by row.
        layers: (W, T, D) after each earlier block, the first at 0.
        block: the block's parts.
        heads: tokens (W, T, D) to the block's ``Heads`` of them.
        grid: (h, w) of the patches of a window.
        starts: first row and column of each window, in pixels of the resized image.
        features: (W, C, h', w') of a proxy model, for a reading that ``needs_proxy``.
    """

    tokens: Tensor
    layers: Sequence[Tensor]
    block: LastBlock
    heads: Callable[[Tensor], Heads]
    grid: Pair
    starts: Sequence[Pair]
    features: Tensor | None


class Reading(NamedTuple):
    """A way to compute the last block, what a row of ``READINGS`` names.

    Attributes:
        attention: heads, grid (h, w) and the number of tokens before the patches to the attention,
            (B, G, T, T) or (T, T), rows over keys; None for ProxyCLIP's, of a proxy model.
        whole: True if the block's input is added to the attention's output and the block's MLP
            follows; False for the attention's output alone.
        compute: in place of both, all windows of an image to the tokens after the block, (W, T, D);
            on the proxy model's grid for a reading that ``needs_proxy``.
        needs_proxy: True for a reading of your own by ``compute`` that reads a proxy model.
        average: the tower's features (B, N, D) to weights (B, N, N), rows over locations, by which
            the embeddings of locations are averaged; the block stays as it is.
    """

    attention: Callable[[Heads, Pair, int], Tensor] | None
    whole: bool
    compute: Callable[[Windows], Tensor] | None = None
    needs_proxy: bool = False
    average: Callable[[Tensor], Tensor] | None = None

    @property
    def keeps_block(self) -> bool:
        """True if the block stays as it is."""
        return self.average is not None


def affinity(features: Tensor) -> Tensor:
    """Return the softmax of the scaled cosines of centred features (B, N, D): (B, N, N)."""
    unit = functional.normalize(features - features.mean(dim=1, keepdim=True), dim=-1)
    return (AFFINITY_SCALE * unit @ unit.transpose(1, 2)).softmax(dim=-1)


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
AFFINITY = PLAIN._replace(average=affinity)


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
    block: LastBlock,
    reading: Reading,
    *,
    grid: Pair,
    features: Tensor | None = None,
    tower: nn.Module | None = None,
    starts: Sequence[Pair] = (),
) -> Iterator[None]:
    """Within the context, the block computes the reading in place of itself.

    Args:
        block: last block of the tower that is called within the context.
        reading: what a row of ``READINGS`` names.
        grid: (h, w) of the images.
        features: (B, C, h', w') of a proxy model, for a reading by it; the patches then come out
            on its grid.
        tower: holds the earlier blocks beside the last one, for a reading by ``compute``.
        starts: where the images begin that are the windows of one image; by default each is an
            image.
    """
    layers: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        layers.append(output[0] if isinstance(output, tuple) else output)

    def by_image(compute: Callable[[Windows], Tensor], tokens: Tensor, options: Any) -> Tensor:
        count = len(starts) or 1
        results = []
        for first in range(0, len(tokens), count):
            image = slice(first, first + count)
            windows = Windows(
                tokens[image],
                [layer[image] for layer in layers],
                block=block,
                heads=lambda given: block.heads(given, options),
                grid=grid,
                starts=starts or [(0, 0)],
                features=None if features is None else features[image],
            )
            results.append(compute(windows))
        return torch.cat(results)

    def read(tokens: Tensor, options: Any) -> Tensor:
        if reading.compute is not None:
            return by_image(reading.compute, tokens, options)
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
        return result

    def replace_output(module: Any, inputs: Any, options: Any, output: Any) -> Any:
        result = read(inputs[0] if inputs else options["hidden_states"], options)
        return (result, *output[1:]) if isinstance(output, tuple) else result

    with ExitStack() as stack:
        stack.enter_context(block.module.register_forward_hook(replace_output, with_kwargs=True))
        if reading.compute is not None and tower is not None:
            # the blocks lie in one list of the tower
            lists = [[*module.children()] for module in tower.modules()]
            *earlier, _ = next(blocks for blocks in lists if block.module in blocks)
            for module in earlier:
                stack.enter_context(module.register_forward_hook(keep))
        yield


def _by_proxy(values: Tensor, features: Tensor, *, grid: Pair, prefix: int) -> Tensor:
    """Attend over values (B, G, T, d) resized to the proxy model's grid; class and register tokens
    keep their values.
    """
    wide = resize_values(values[:, :, prefix:], features, grid=grid)
    return torch.cat(
        [values[:, :, :prefix], proxy_attention(features.to(wide.dtype)) @ wide], dim=2
    )


def resize_values(values: Tensor, features: Tensor, *, grid: Pair) -> Tensor:
    """Resize the values of patches (B, G, h w, d) to the grid of features (B, C, h', w'): (B, G, h'
    w', d).
    """
    patches = values.flatten(0, 1).transpose(1, 2)  # (B G, d, h w)
    resized = functional.interpolate(
        torch.unflatten(patches, 2, grid),
        size=features.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )
    return torch.unflatten(resized.flatten(2).transpose(1, 2), 0, values.shape[:2])
