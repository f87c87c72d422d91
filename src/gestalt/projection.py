"""Projection: modules that map a tower's tokens, or the vector pooled from them, to the embedding
width.

B batch size, N parts, R registers, D tower width, E embedding width, C classes.

To add one, write a module for each tower that needs one, put them into ``Maps``, and add a row to
``tables.py``. Nothing else changes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.tokens import Tokens

CLASSES = 1000
"""Number of classes of ImageNet-1k, the only classes whose names are known."""

TEMPERATURE, LIKELIEST = 2.0, 10
"""Temperature of the softmax over classes, and number of its largest probabilities that are
used.
"""


class Projection(nn.Module):
    """Base class of the projection of one tower.

    A subclass defines ``project``, which maps vectors (..., D) to (..., E).

    Attributes:
        mixes_locations: True if the vector of a patch depends on the tokens of other patches.
    """

    mixes_locations = False

    def forward(self, tokens: Tokens) -> Tokens:
        """Project tokens.  Maps parts (B, N, D) to (B, N, E) and the summary (B, D) to (B, E).
        Mask and grid are unchanged.
        """
        summary = None if tokens.summary is None else self.project(tokens.summary)
        return tokens._replace(summary=summary, parts=self.project(tokens.parts))

    def project(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., D) to (..., E)."""
        raise NotImplementedError

    def locations(self, tokens: Tokens, projected: Tokens) -> Tensor:
        """Return the embeddings of patches, (B, N, E), given the tokens of the tower and the output
        of ``forward``.
        """
        return projected.parts


class TokenProjection(Projection):
    """Linear map, by default without bias, applied to every part and to the summary.

    If it comes before aggregation, a maximum is taken over channels that both towers share. The
    initial standard deviation, ``width_in ** -0.5``, preserves the scale of tokens after a
    LayerNorm.

    Source: Radford et al. 2021 (arXiv:2103.00020) for no bias and the initial scale.
    """

    def __init__(self, width_in: int, width_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=bias)
        nn.init.normal_(self.linear.weight, std=width_in**-0.5)

    def project(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., D) to (..., E)."""
        return self.linear(vectors)


class ClassifierProjection(TokenProjection):
    """Average of a classifier's class-name embeddings, weighted by the class probabilities of a
    vector and L2-normalised, plus a linear map of the vector that is initially zero.

    The ``LIKELIEST`` largest probabilities of softmax(logits / ``TEMPERATURE``) are renormalised
    and used as weights. The class-name embeddings initially have length 1. ``start`` or a
    checkpoint provides the classifier and the embeddings. Training changes either the linear map or
    the class-name embeddings (``train_names``).

    Source: Norouzi et al. 2013 (arXiv:1312.5650, ConSE), equations 4 and 5, with a temperature.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out)
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("weight", torch.zeros(CLASSES, width_in))
        self.register_buffer("bias", torch.zeros(CLASSES))
        self.names = nn.Parameter(torch.zeros(CLASSES, width_out), requires_grad=False)

    def train_names(self, wanted: bool) -> None:
        """Choose what training changes: the class-name embeddings if ``wanted``, else the linear
        map.
        """
        self.names.requires_grad_(wanted)
        self.linear.requires_grad_(not wanted)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project a CNN's tokens; the summary is projected from global average pooling."""
        return super().forward(tokens._replace(summary=tokens.parts.mean(dim=1)))

    def project(self, vectors: Tensor) -> Tensor:
        """Average the class-name embeddings for vectors (..., D), and add the linear map.  Returns
        (..., E).
        """
        logits = functional.linear(vectors, self.weight, self.bias)
        likeliest = (logits.float() / TEMPERATURE).topk(LIKELIEST, dim=-1)
        names = self.names[likeliest.indices]  # (..., LIKELIEST, E)
        weights = likeliest.values.softmax(dim=-1).to(names)
        mean = torch.einsum("...k,...ke->...e", weights, names)
        return functional.normalize(mean, dim=-1) + self.linear(vectors)


class ClassifierImageProjection(ClassifierProjection):
    """``ClassifierProjection`` with a separate linear map for the summary.

    The map is applied to the globally average-pooled features after a LayerNorm, and is initially
    zero.

    The class-name embeddings are trained from the parts only.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out)
        self.image_map = nn.Linear(width_in, width_out)
        nn.init.zeros_(self.image_map.weight)
        nn.init.zeros_(self.image_map.bias)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project a CNN's tokens; the summary is projected from global average pooling."""
        projected = super().forward(tokens)
        mean = tokens.parts.mean(dim=1)
        assert projected.summary is not None
        added = self.image_map(functional.layer_norm(mean, mean.shape[-1:]))
        return projected._replace(summary=projected.summary.detach() + added)


class AttentionProjection(nn.Sequential):
    """SigLIP's attention pooling, applied to each patch token separately, and to all patch tokens
    for the summary.  It is the only submodule.

    Source: Zhai et al. 2023 (arXiv:2303.15343); timm 1.0, ``layers.AttentionPoolLatent``.
    """

    locations = Projection.locations

    def forward(self, tokens: Tokens) -> Tokens:
        """Project the tokens of images, which have no padding."""
        pool = self[0]
        parts = tokens.parts
        alone = pool(parts.flatten(0, 1).unsqueeze(1))
        return tokens._replace(summary=pool(parts), parts=alone.view_as(parts))


class MlpProjection(Projection):
    """Linear map, tanh, linear map, each with a bias.

    Source: Barsellotti et al. 2024 (arXiv:2411.19331, Talk2DINO), section 3.2.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width_in, width_out), nn.Tanh(), nn.Linear(width_out, width_out)
        )

    def project(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., D) to (..., E)."""
        return self.layers(vectors)


class GatedProjection(Projection):
    """LayerNorm, then W3 (ReLU6(W1 x) * W2 x), each map with a bias.

    Source: Zhang et al. 2024 (arXiv:2412.04616, SAIL), section 3, with the inner width and the
    initial values of its code (lezhang7/SAIL).
    """

    INNER = 8  # inner width as a multiple of the input width

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        inner = self.INNER * width_in
        self.norm = nn.LayerNorm(width_in)
        self.gate = nn.Linear(width_in, inner)
        self.value = nn.Linear(width_in, inner)
        self.out = nn.Linear(inner, width_out)
        for linear in (self.gate, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def project(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., D) to (..., E)."""
        normed = self.norm(vectors)
        return self.out(functional.relu6(self.gate(normed)) * self.value(normed))


class BlocksProjection(Projection):
    """Two transformer blocks over summary, registers and parts, a LayerNorm, and a linear map if
    the widths differ.

    The blocks have heads of 64 channels, LayerScale and SwiGLU, but no position embeddings and no
    bias of queries, keys and values.  Stochastic depth, which the published training has, is left
    out.

    Source: Jose et al. 2024 (arXiv:2412.16334, dino.txt), section 3, with the sizes and initial
    values of its code (facebookresearch/dinov3).
    """

    mixes_locations = True
    BLOCKS, HEAD, SCALE, EPSILON = 2, 64, 1e-5, 1e-5
    MULTIPLE = 64  # the inner width of SwiGLU is rounded up to a multiple

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        from timm.layers.mlp import SwiGLU
        from timm.models import vision_transformer

        block: Any = vision_transformer.Block  # also accepts functions for submodules
        inner = math.ceil(int(8 * width_in / 3) / self.MULTIPLE) * self.MULTIPLE

        def swiglu(in_features: int, hidden_features: int, **options: Any) -> nn.Module:
            # timm passes its default inner width, and GELU as the activation
            return SwiGLU(in_features, inner, **{**options, "act_layer": nn.SiLU})

        self.blocks = nn.Sequential(
            *(
                block(
                    width_in,
                    num_heads=math.gcd(width_in, max(1, width_in // self.HEAD)),
                    init_values=self.SCALE,
                    norm_layer=partial(nn.LayerNorm, eps=self.EPSILON),
                    mlp_layer=swiglu,
                )
                for _ in range(self.BLOCKS)
            )
        )
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.norm = nn.LayerNorm(width_in, eps=self.EPSILON)
        self.linear = None if width_in == width_out else TokenProjection(width_in, width_out)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project the tokens of images, which have no padding; the registers as well."""
        summary, registers, parts = tokens.summary, tokens.registers, tokens.parts
        prefix = [] if summary is None else [summary.unsqueeze(1)]
        prefix += [] if registers is None else [registers]
        mixed = self.norm(self.blocks(torch.cat((*prefix, parts), dim=1)))
        mixed = mixed if self.linear is None else self.linear.project(mixed)
        return tokens._replace(
            summary=None if summary is None else mixed[:, 0],
            parts=mixed[:, mixed.shape[1] - parts.shape[1] :],
        )


class TrunkBlocksProjection(BlocksProjection):
    """``BlocksProjection`` that takes the embeddings of patches from the trunk instead of the
    blocks. The linear map projects them, if there is one.
    """

    mixes_locations = False

    def locations(self, tokens: Tokens, projected: Tokens) -> Tensor:
        """Return the trunk's patch tokens, (B, N, E), projected if there is a linear map."""
        return tokens.parts if self.linear is None else self.linear.project(tokens.parts)


Make = Callable[[Any, int, int], nn.Module]
"""Function that builds the projection of a side from the tower, the input width and the output
width.
"""


class Maps(NamedTuple):
    """The projections of both towers; None for a tower without a projection."""

    image: Make | None
    text: Make | None


def by_widths(kind: Callable[[int, int], nn.Module]) -> Make:
    """Return a function that builds a projection from the widths alone, without reading the
    tower.
    """
    return lambda tower, width_in, width_out: kind(width_in, width_out)


LINEAR = Maps(by_widths(TokenProjection), by_widths(TokenProjection))
NONE = Maps(None, None)
TEXT = Maps(None, by_widths(TokenProjection))
TEXT_MLP = Maps(None, by_widths(MlpProjection))
BLOCKS = Maps(by_widths(BlocksProjection), by_widths(TokenProjection))
BLOCKS_TRUNK = Maps(by_widths(TrunkBlocksProjection), by_widths(TokenProjection))
GATED = Maps(by_widths(GatedProjection), by_widths(GatedProjection))
SIGLIP = Maps(
    lambda tower, width_in, width_out: AttentionProjection(tower.trunk.pooling[0]),
    by_widths(partial(TokenProjection, bias=True)),
)
CLASSIFIER = Maps(by_widths(ClassifierProjection), None)
CLASSIFIER_IMAGE = Maps(by_widths(ClassifierImageProjection), None)
