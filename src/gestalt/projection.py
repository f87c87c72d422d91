"""Projection: tower width to shared width, on every token.  B batch, N parts, D tower width, E
shared width, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.tokens import Tokens

CLASSES = 1000
"""Classes of ImageNet-1k, the only ones whose names are known."""

TEMPERATURE, LIKELIEST = 2.0, 10
"""Of the softmax over classes, and how many of its largest probabilities are read."""


class TokenProjection(nn.Module):
    """Linear map, as a rule without bias, applied to every part and to the summary.

    Before aggregation, a maximum is over channels that both towers share.  The initial
    standard deviation, ``width_in ** -0.5``, keeps the scale of tokens after a LayerNorm.

    Source: Radford et al. 2021 (arXiv:2103.00020) for no bias and the initial scale.
    """

    def __init__(self, width_in: int, width_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=bias)
        nn.init.normal_(self.linear.weight, std=width_in**-0.5)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project tokens.  Parts (B, N, D) to (B, N, E), summary (B, D) to (B, E); mask and grid
        are unchanged.
        """
        summary = None if tokens.summary is None else self.project(tokens.summary)
        return tokens._replace(summary=summary, parts=self.project(tokens.parts))

    def project(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., D) to (..., E)."""
        return self.linear(vectors)


class ClassifierProjection(TokenProjection):
    """A classifier's names of a vector, averaged by their probabilities and L2-normalised, plus a
    linear map that is zero at first.

    The ``LIKELIEST`` probabilities of softmax(logits / ``TEMPERATURE``) are renormalised and weigh
    the names' vectors, which have length 1 at first.  A start or a checkpoint fills classifier and
    names.  Either the linear map is trained or the names (``train_names``).

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
        """Let training change the names in place of the linear map, or the linear map alone."""
        self.names.requires_grad_(wanted)
        self.linear.requires_grad_(not wanted)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project a CNN's tokens, and the mean of its map for the summary."""
        return super().forward(tokens._replace(summary=tokens.parts.mean(dim=1)))

    def project(self, vectors: Tensor) -> Tensor:
        """Average the names of vectors (..., D), and add the linear map: (..., E)."""
        logits = functional.linear(vectors, self.weight, self.bias)
        likeliest = (logits.float() / TEMPERATURE).topk(LIKELIEST, dim=-1)
        names = self.names[likeliest.indices]  # (..., LIKELIEST, E)
        weights = likeliest.values.softmax(dim=-1).to(names)
        mean = torch.einsum("...k,...ke->...e", weights, names)
        return functional.normalize(mean, dim=-1) + self.linear(vectors)


class AttentionProjection(nn.Sequential):
    """SigLIP's attention pooling, its only part: of each patch token alone, and of all of them for
    the summary.

    Source: Zhai et al. 2023 (arXiv:2303.15343); timm 1.0, ``layers.AttentionPoolLatent``.
    """

    def forward(self, tokens: Tokens) -> Tokens:
        """Project the tokens of images, which have no padding."""
        pool = self[0]
        parts = tokens.parts
        alone = pool(parts.flatten(0, 1).unsqueeze(1))
        return tokens._replace(summary=pool(parts), parts=alone.view_as(parts))
