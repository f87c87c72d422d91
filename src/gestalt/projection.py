"""Projection: tower width to shared width, on every token.  B batch, N parts, D tower width, E
shared width.
"""

from torch import Tensor, nn

from gestalt.tokens import Tokens


class TokenProjection(nn.Module):
    """Linear map, as a rule without bias, applied to every part and to the summary.

    Before aggregation, so that a maximum is over channels that both towers share.  The initial
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
        summary: Tensor | None = None if tokens.summary is None else self.linear(tokens.summary)
        return tokens._replace(summary=summary, parts=self.linear(tokens.parts))


class AttentionProjection(nn.Sequential):
    """SigLIP's attention pooling, its only part: of each patch token alone, and of all of them for
    the summary.

    Source: Zhai et al. 2023 (arXiv:2303.15343); timm 1.0, ``layers.AttentionPoolLatent``.
    """

    def forward(self, tokens: Tokens) -> Tokens:
        """Project the tokens of images, which have no padding."""
        (pool,), parts = self, tokens.parts
        alone = pool(parts.flatten(0, 1).unsqueeze(1))
        return tokens._replace(summary=pool(parts), parts=alone.view_as(parts))
