"""Aggregation: functions and modules that pool tokens to one vector.

B batch size, N parts, D width.

To add an aggregation, write a function of ``Tokens``, or a module that is constructed with a width,
and add a row to ``tables.py``. Nothing else changes. ``cls``, ``avg`` and ``max`` are those of the
paper. The model decides whether they are applied after the final LayerNorm or after the projection.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gestalt.tables import AGGREGATIONS
from gestalt.tokens import Tokens

Aggregation = Callable[[Tokens], Tensor]
"""Maps tokens to (B, D), not L2-normalised."""


def summary_token(tokens: Tokens) -> Tensor:
    """Return the summary of the tower, the class token, (B, D).

    Raises:
        ValueError: the tower has no summary.
    """
    if tokens.summary is None:
        raise ValueError(
            "aggregation: these tokens have no summary. ViTs with a class token and BERT-like text "
            "towers have one; CNNs, T5 and ViTs without a class token do not: use max or avg there"
        )
    check_parts(tokens)
    return tokens.summary


def mean_of_parts(tokens: Tokens) -> Tensor:
    """Average the real parts.  Returns (B, D)."""
    return _filled(tokens, 0).sum(dim=1) / tokens.mask.sum(dim=1, keepdim=True)


def max_of_parts(tokens: Tokens) -> Tensor:
    """Take the maximum of each channel over the parts, without the summary.  Returns (B, D).

    Source: Ranasinghe et al. 2023 (arXiv:2210.09996), section 3.
    """
    # With max, the gradient goes to one part per channel; amax would split it between ties.
    return _filled(tokens, -math.inf).max(dim=1).values


def max_with_summary(tokens: Tokens) -> Tensor:
    """Take the maximum of each channel over the parts and the summary.  Returns (B, D).

    Raises:
        ValueError: the tower has no summary.

    Source: kahnchana/clippy at 04bf78b, which trained the public checkpoint with it.
    """
    summary = summary_token(tokens).unsqueeze(1)  # (B, 1, D)
    return torch.cat((summary, _filled(tokens, -math.inf)), dim=1).max(dim=1).values


def summary_and_mean(tokens: Tokens) -> Tensor:
    """Join the summary and the mean of the real parts.  Returns (B, 2 D).

    Raises:
        ValueError: the tower has no summary.

    Source: Jose et al. 2024 (arXiv:2412.16334, dino.txt), section 3.
    """
    return torch.cat((summary_token(tokens), mean_of_parts(tokens)), dim=1)


def summary_and_max(tokens: Tokens) -> Tensor:
    """Join the summary and the maximum of each channel over the parts.  Returns (B, 2 D).

    Raises:
        ValueError: the tower has no summary.
    """
    return torch.cat((summary_token(tokens), max_of_parts(tokens)), dim=1)


def mean_of_largest(tokens: Tokens, *, share: float = 1.0, most: int = 2**31) -> Tensor:
    """Average the largest values of each channel: a ``share`` of the real parts, at least one and
    at most ``most`` values.  Returns (B, D).

    Source of averaging a fixed number: Yi et al., "A simple framework for text-supervised semantic
    segmentation" (SimSeg), CVPR 2023, locality-driven alignment.
    """
    real = tokens.mask.sum(dim=1, keepdim=True)
    # 1e-4 because 0.3 * 50 is 15.000001 in float32, and the count must be 15
    count = (real * share - 1e-4).ceil().clamp(1, most)  # (B, 1)
    longest = min(most, max(1, math.ceil(tokens.parts.shape[1] * share - 1e-4)))
    largest = _filled(tokens, -math.inf).topk(longest, dim=1).values  # (B, longest, D)
    beyond = torch.arange(longest, device=count.device) >= count  # (B, longest)
    return largest.masked_fill(beyond.unsqueeze(-1), 0).sum(dim=1) / count.to(largest.dtype)


mean_of_top_tenth = partial(mean_of_largest, share=0.1)
mean_of_top_5 = partial(mean_of_largest, most=5)


class AttentionPooling(nn.Module):
    """Average the parts, weighted by the softmax of their similarity to one learned query.

    The query starts at zero, which gives the plain mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tokens) -> Tensor:
        """Pool the real parts.  Returns (B, D)."""
        parts = _wide(tokens)
        scores = (parts * self.query).sum(dim=-1) / math.sqrt(parts.shape[-1])  # (B, N)
        weights = scores.masked_fill(~tokens.mask, -math.inf).softmax(dim=1)
        return (weights.unsqueeze(-1) * parts).sum(dim=1).to(tokens.parts.dtype)


class LogSumExp(nn.Module):
    """Soft maximum of each channel with a learned sharpness t: (1/t) log mean exp(t x).

    It approaches the mean as t goes to 0, and the maximum as t grows.

    Source: Boyd, Vandenberghe, "Convex optimization", section 3.1.5; Pinheiro, Collobert 2015
    (arXiv:1411.6228) use it to pool the cells of feature maps.
    """

    def __init__(self, width: int, sharpness: float = 4.0) -> None:
        super().__init__()
        # a logarithm keeps t positive
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))

    def forward(self, tokens: Tokens) -> Tensor:
        """Pool the real parts.  Returns (B, D)."""
        sharpness = self.log_sharpness.exp()
        pooled = _log_mean_exp(_wide(tokens) * sharpness, tokens.mask) / sharpness
        return pooled.to(tokens.parts.dtype)


class GeneralisedMean(nn.Module):
    """Power mean of each channel with a learned exponent p.

    It is the mean for p = 1, and approaches the maximum as p grows.

    Powers need positive values, but channels are signed. Each channel is therefore shifted by its
    minimum over the real parts, and shifted back afterwards.

    Source: Radenovic, Tolias, Chum 2018 (arXiv:1711.02512), GeM with p = 3; the shift is ours.
    """

    def __init__(self, width: int, exponent: float = 3.0) -> None:
        super().__init__()
        # a logarithm keeps p positive
        self.log_exponent = nn.Parameter(torch.tensor(math.log(exponent)))

    def forward(self, tokens: Tokens) -> Tensor:
        """Pool the real parts.  Returns (B, D)."""
        floor = 1e-6  # added to shifted values to keep the logarithm finite
        exponent = self.log_exponent.exp()
        smallest = _wide(tokens, math.inf).min(dim=1, keepdim=True).values  # (B, 1, D)
        shifted = (_wide(tokens) - smallest).masked_fill(~tokens.mask.unsqueeze(-1), 0) + floor
        power_mean = (_log_mean_exp(shifted.log() * exponent, tokens.mask) / exponent).exp()
        return (smallest.squeeze(1) + (power_mean - floor)).to(tokens.parts.dtype)


def build_aggregation(name: str, width: int) -> Aggregation:
    """Build an aggregation by name, for tokens of ``width`` channels.  It is a module if it has
    parameters.
    """
    aggregation = AGGREGATIONS[name]
    return aggregation(width) if isinstance(aggregation, type) else aggregation


def pooled_width(name: str, width: int) -> int:
    """Return the width of the output of an aggregation for tokens of ``width`` channels."""
    return 2 * width if AGGREGATIONS.row(name).beside else width


def check_parts(tokens: Tokens) -> None:
    """Check that every item has a real part.

    On an accelerator the device itself checks, and stops the run at the next synchronisation,
    because reading the mask on the host would wait for the forward pass in each step. A traced
    graph must not depend on values, so it has no check.

    Raises:
        ValueError: an item whose parts are all padding (CPU).
    """
    if torch.compiler.is_compiling():
        return
    present = tokens.mask.any(dim=1)
    if present.device.type == "cpu":
        if not bool(present.all()):
            empty = (~present).nonzero().flatten().tolist()
            raise ValueError(
                f"aggregation: items {empty} of the batch have no real part, their mask is all "
                "False; leave them out"
            )
    elif present.device.type != "meta":
        torch._assert_async(
            present.all(),
            "aggregation: an item of the batch has no real part, its mask is all False",
        )


def _filled(tokens: Tokens, value: float) -> Tensor:
    """Return the parts with padding set to ``value``, (B, N, D)."""
    check_parts(tokens)
    return tokens.parts.masked_fill(~tokens.mask.unsqueeze(-1), value)


def _wide(tokens: Tokens, fill: float = 0.0) -> Tensor:
    """Return ``_filled`` in float32 or higher precision, which exponentials need."""
    return _filled(tokens, fill).to(torch.promote_types(tokens.parts.dtype, torch.float32))


def _log_mean_exp(x: Tensor, mask: Tensor) -> Tensor:
    """Return log mean exp over the real parts.  Maps (B, N, D) and mask (B, N) to (B, D)."""
    total = x.masked_fill(~mask.unsqueeze(-1), -math.inf).logsumexp(dim=1)
    return total - mask.sum(dim=1, keepdim=True).to(x.dtype).log()
