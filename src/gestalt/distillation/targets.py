"""Distributions over prototypes: a teacher's, which do not collapse, and a student's.  M samples, K
prototypes.
"""

import torch
from torch import Tensor

from gestalt.losses.gather import sum_over_ranks

TEACHER_TEMPERATURE = 0.04
STUDENT_TEMPERATURE = 0.1
MASK_SHARE = 0.5
"""Share of the patches that a student does not see."""

SINKHORN_STEPS = 3
"""Source: Caron et al. 2020 (arXiv:2006.09882), section 4, and Oquab et al. 2023
(arXiv:2304.07193).
"""


@torch.no_grad()
def sinkhorn(
    logits: Tensor, *, temperature: float = TEACHER_TEMPERATURE, steps: int = SINKHORN_STEPS
) -> Tensor:
    """Balance prototypes over samples: each gets the same share of all samples of all ranks, as far
    as ``steps`` rounds reach.

    Leading dimensions are balanced one by one, such as the positions of a grid.  Ranks may hold
    different numbers of samples.

    Args:
        logits: (..., M, K), divided by ``temperature``; those of a sample should then lie within 80
            of each other, which float32 can hold.
        temperature: above 0.
        steps: rounds of both normalisations.

    Returns:
        (..., M, K) float, each row a distribution.

    Source: Cuturi 2013 (arXiv:1306.0895); Caron et al. 2020 (arXiv:2006.09882).
    """
    scaled = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    # a factor of each row, which the first round of rows would remove
    plan = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    tiny = torch.finfo(plan.dtype).tiny
    for _ in range(steps):
        plan = plan / plan.sum(dim=-1, keepdim=True)
        plan = plan / sum_over_ranks(plan.sum(dim=-2, keepdim=True)).clamp_min(tiny)
    return plan / plan.sum(dim=-1, keepdim=True).clamp_min(tiny)


def student_logs(logits: Tensor) -> Tensor:
    """Return the student's log-probabilities, (..., K), in float32 or wider."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / STUDENT_TEMPERATURE
    return scaled.log_softmax(dim=-1)


def entropies(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of distributions (..., K) and the entropy of their mean, in nats,
    which reveal a collapse.

    The first is ln K if they are uniform; the second is near 0 if every sample gets the same
    prototype.
    """
    flat = targets.flatten(0, -2)
    return torch.special.entr(flat).sum(dim=-1).mean(), torch.special.entr(flat.mean(dim=0)).sum()
