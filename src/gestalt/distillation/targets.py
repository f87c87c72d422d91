"""Targets: a teacher's outputs as distributions over prototypes that do not collapse.  M samples, K prototypes."""

import torch
from torch import Tensor

from gestalt.losses.gather import sum_over_ranks

SINKHORN_STEPS = 3
"""Source: Caron et al. 2020 (arXiv:2006.09882), section 4, and Oquab et al. 2023 (arXiv:2304.07193)."""


@torch.no_grad()
def sinkhorn(logits: Tensor, *, temperature: float, steps: int = SINKHORN_STEPS) -> Tensor:
    """Balance prototypes over samples: each gets the same share of all samples of all ranks, as far as ``steps`` rounds reach.

    Leading dimensions are balanced one by one, such as the positions of a grid.  Ranks may hold different numbers of samples.

    Args:
        logits: (..., M, K), divided by ``temperature``; those of a sample should then lie within 80 of each other, which float32 can hold.
        temperature: above 0.
        steps: rounds of both normalisations.

    Returns:
        (..., M, K) float, each row a distribution.

    Source: Cuturi 2013 (arXiv:1306.0895); Caron et al. 2020 (arXiv:2006.09882).
    """
    scaled = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    plan = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()  # a factor of each row, which the first round of rows would remove
    for _ in range(steps):
        plan = plan / plan.sum(dim=-1, keepdim=True)
        plan = plan / sum_over_ranks(plan.sum(dim=-2, keepdim=True)).clamp_min(torch.finfo(plan.dtype).tiny)
    return plan / plan.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)
