"""Self-distillation on two gloo ranks under DDP, against one process on the whole batch: centre, loss and gradient.  K prototypes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from gestalt.pretraining.distillation_loss import DistillationLoss
from tests.gestalt.ranks import be_rank, run_ranks

pytestmark = pytest.mark.slow
RANKS, LOCAL, CROPS, STEPS, K = 2, 3, 4, 3, 6


class Student(nn.Module):
    """The smallest student, float64."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, K, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data.normal_(generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x)
        return logits


def found_on(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Loss, gradient and centre after steps whose losses all depend on the centre of the ones before."""
    loss, generator = DistillationLoss(K, student_temperature=0.5, centre_momentum=0.5), torch.Generator().manual_seed(2)
    terms, gradients = [], []
    for _ in range(STEPS):
        crops = torch.randn(CROPS, RANKS * LOCAL, 5, dtype=torch.float64, generator=generator)
        teacher = torch.randn(2, RANKS * LOCAL, K, dtype=torch.float64, generator=generator)
        model.zero_grad()
        term = loss(model(crops[:, rows]), teacher[:, rows], temperature=0.2).loss
        term.backward()
        terms.append(term.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    return {"loss": torch.stack(terms), "gradient": torch.stack(gradients), "centre": loss.centre.clone()}


def run_rank(rank: int, folder: Path) -> None:
    """What each process does under DDP."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    model = nn.parallel.DistributedDataParallel(Student())
    found = found_on(model, slice(rank * LOCAL, (rank + 1) * LOCAL))
    distributed.all_reduce(found["loss"])
    found["loss"] /= RANKS
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Start the ranks as processes of their own that meet in a file; what each found."""
    return run_ranks(__file__, tmp_path_factory.mktemp("ranks"), ranks=RANKS)


@pytest.mark.parametrize("what", ["loss", "gradient", "centre"])
def test_two_ranks_equal_one_process(results: list[dict[str, Any]], what: str) -> None:
    expected = found_on(Student(), slice(None))
    for rank in results:
        torch.testing.assert_close(rank[what], expected[what], rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    be_rank(run_rank)
