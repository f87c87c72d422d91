"""Projection: tower width to shared width, on every token.  B batch, N parts, D tower width, E shared width."""

from torch import Tensor, nn

from gestalt.tokens import Tokens


class Projection(nn.Module):
    """One linear map without bias, applied to every part and to the summary.

    It acts before aggregation, so that a maximum is taken over channels that both towers share.
    Weights start normal with standard deviation ``width_in ** -0.5``: tokens after a LayerNorm keep their scale.

    Source: Radford et al. 2021 (arXiv:2103.00020) for the missing bias and the initial scale.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=False)
        nn.init.normal_(self.linear.weight, std=width_in**-0.5)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project.  (B, N, D) parts to (B, N, E); mask and grid stay as they are."""
        summary: Tensor | None = None if tokens.summary is None else self.linear(tokens.summary)
        return tokens._replace(summary=summary, parts=self.linear(tokens.parts))
