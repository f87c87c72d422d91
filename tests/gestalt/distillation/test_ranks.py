"""The loss of patches on two ranks, threads or gloo's under DDP, against one process: losses and gradients.  K prototypes."""

from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from gestalt.distillation.patch_loss import patch_loss
from gestalt.distillation.targets import sinkhorn
from tests.gestalt.ranks import be_rank, mean_over_threads

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
        teacher = 0.1 * torch.randn(2, RANKS * LOCAL, 4, K, dtype=torch.float64, generator=generator)
        corners = torch.rand(2, RANKS * LOCAL, 2, generator=generator) * 0.5
        places = torch.cat([corners, corners + 0.5], dim=-1)
        model.zero_grad()
        terms = patch_loss(model(patches[:, rows]), teacher[:, rows], places=places[:, rows])
        (terms.same + 2 * terms.across).backward()
        losses.append(torch.stack([terms.same, terms.across]).detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    return {"loss": torch.stack(losses), "gradient": torch.stack(gradients)}


def targets_on(rank: int | None) -> Tensor:
    """Sinkhorn's targets of this rank's samples; the first rank holds one of them, the second all others."""
    logits = torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return sinkhorn(logits if rank is None else (logits[:1], logits[1:])[rank], temperature=0.3)


def run_rank(rank: int, folder: Path) -> None:
    """Be one rank: write the losses and the gradients that DDP averages to a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    found = found_on(nn.parallel.DistributedDataParallel(Student()), rows)
    distributed.all_reduce(found["loss"])
    found["loss"] /= RANKS
    torch.save({**found, "targets": targets_on(rank)}, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


def test_the_mean_over_two_threads_equals_one_process() -> None:
    found = mean_over_threads(lambda rank: found_on(Student(), slice(rank * LOCAL, (rank + 1) * LOCAL)), ranks=RANKS)
    for name, value in found_on(Student(), slice(None)).items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    be_rank(run_rank)
