"""Projection: tower width to shared width, on every token.  B batch, N parts, D tower width, E
shared width.
"""

from torch import Tensor, nn

from gestalt.tokens import Tokens


class TokenProjection(nn.Module):
    """Linear map without bias, applied to every part and to the summary.

    Before aggregation, so that a maximum is over channels that both towers share.  The initial
    standard deviation, ``width_in ** -0.5``, keeps the scale of tokens after a LayerNorm.

    Source: Radford et al. 2021 (arXiv:2103.00020) for no bias and the initial scale.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=False)
        nn.init.normal_(self.linear.weight, std=width_in**-0.5)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project tokens.  Parts (B, N, D) to (B, N, E), summary (B, D) to (B, E); mask and grid
        are unchanged.
        """
        summary: Tensor | None = None if tokens.summary is None else self.linear(tokens.summary)
        return tokens._replace(summary=summary, parts=self.linear(tokens.parts))
