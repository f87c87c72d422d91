"""The loss of patches on two ranks, as threads, against one process: losses and gradients.  K
prototypes.
"""

import torch
from torch import Tensor, nn

from gestalt.losses.distillation import patch_loss, sinkhorn
from tests.gestalt.ranks import mean_over_threads

RANKS, LOCAL, STEPS, K = 2, 3, 3, 6


class Student(nn.Module):
    """The smallest student, float64."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, K, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data.normal_(generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 0.1 * self.linear(x)
        return logits


def found_on(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Losses and gradient of each step; views overlap by other shares on each rank."""
    generator = torch.Generator().manual_seed(3)
    losses, gradients = [], []
    for _ in range(STEPS):
        patches = torch.randn(2, RANKS * LOCAL, 4, 5, dtype=torch.float64, generator=generator)
        teacher = 0.1 * torch.randn(
            2, RANKS * LOCAL, 4, K, dtype=torch.float64, generator=generator
        )
        corners = torch.rand(2, RANKS * LOCAL, 2, generator=generator) * 0.5
        places = torch.cat([corners, corners + 0.5], dim=-1)
        model.zero_grad()
        same, across = patch_loss(model(patches[:, rows]), teacher[:, rows], places=places[:, rows])
        (same + 2 * across).backward()
        losses.append(torch.stack([same, across]).detach())
        gradients.append(
            torch.cat(
                [
                    parameter.grad.flatten()
                    for parameter in model.parameters()
                    if parameter.grad is not None
                ]
            )
        )
    return {"loss": torch.stack(losses), "gradient": torch.stack(gradients)}


def targets_on(rank: int | None) -> Tensor:
    """Sinkhorn's targets, zero but for this rank's samples; the first rank holds one of them, the
    second all others.
    """
    logits = torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rows = slice(None) if rank is None else (slice(0, 1), slice(1, None))[rank]
    targets = torch.zeros_like(logits)
    targets[rows] = sinkhorn(logits[rows], temperature=0.3)
    return targets


def test_the_mean_over_two_threads_equals_one_process():
    found = mean_over_threads(
        lambda rank: found_on(Student(), slice(rank * LOCAL, (rank + 1) * LOCAL)), ranks=RANKS
    )
    torch.testing.assert_close(found, found_on(Student(), slice(None)), rtol=1e-5, atol=1e-6)


def test_targets_of_unequal_numbers_of_samples_equal_those_of_one_process():
    found = mean_over_threads(lambda rank: {"targets": targets_on(rank)}, ranks=RANKS)
    torch.testing.assert_close(RANKS * found["targets"], targets_on(None))
