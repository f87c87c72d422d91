"""Self-distillation on two ranks, threads or gloo's under DDP, against one process: losses, gradients, centre.  K prototypes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from gestalt.distillation.image_loss import DistillationLoss
from gestalt.distillation.patch_loss import CENTRINGS, PatchLoss
from gestalt.distillation.targets import sinkhorn
from tests.gestalt.ranks import be_rank, mean_over_threads, run_ranks

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


def patches_on(model: nn.Module, rows: slice, *, centring: str) -> dict[str, Tensor]:
    """Losses of patches and their gradient after steps; views overlap by other shares on each rank."""
    loss, generator = PatchLoss(K, centring=centring, student_temperature=0.5, centre_momentum=0.5), torch.Generator().manual_seed(3)
    terms, gradients = [], []
    for _ in range(STEPS):
        patches = torch.randn(2, RANKS * LOCAL, 4, 5, dtype=torch.float64, generator=generator)
        teacher = torch.randn(2, RANKS * LOCAL, 4, K, dtype=torch.float64, generator=generator)
        corners = torch.rand(2, RANKS * LOCAL, 2, generator=generator) * 0.5
        places = torch.cat([corners, corners + 0.5], dim=-1)
        model.zero_grad()
        term = loss(model(patches[:, rows]), teacher[:, rows], temperature=0.2, places=places[:, rows])
        (term.same + 2 * term.across).backward()
        terms.append(torch.stack([term.same, term.across]).detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    return {f"{centring} loss": torch.stack(terms), f"{centring} gradient": torch.stack(gradients)}


def targets_on(rank: int | None) -> Tensor:
    """Sinkhorn's targets of this rank's samples; the first rank holds one of them, the second all others."""
    logits = torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return sinkhorn(logits if rank is None else (logits[:1], logits[1:])[rank], temperature=0.3)


def run_rank(rank: int, folder: Path) -> None:
    """Be one rank: write the losses and the gradients that DDP averages to a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    found = found_on(nn.parallel.DistributedDataParallel(Student()), rows)
    for centring in CENTRINGS:
        found |= patches_on(nn.parallel.DistributedDataParallel(Student()), rows, centring=centring)
    for name in ("loss", *(f"{centring} loss" for centring in CENTRINGS)):
        distributed.all_reduce(found[name])
        found[name] /= RANKS
    found["targets"] = targets_on(rank)
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Start the ranks as separate processes that meet in a file; return their results."""
    return run_ranks(__file__, tmp_path_factory.mktemp("ranks"), ranks=RANKS)


@pytest.mark.parametrize("centring", CENTRINGS)
def test_the_mean_over_two_threads_equals_one_process(centring: str) -> None:
    found = mean_over_threads(lambda rank: patches_on(Student(), slice(rank * LOCAL, (rank + 1) * LOCAL), centring=centring), ranks=RANKS)
    for name, value in patches_on(Student(), slice(None), centring=centring).items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["loss", "gradient", "centre"])
def test_two_ranks_equal_one_process(results: list[dict[str, Any]], what: str) -> None:
    expected = found_on(Student(), slice(None))
    for rank in results:
        torch.testing.assert_close(rank[what], expected[what], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("centring", CENTRINGS)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_losses_of_patches_on_two_ranks_equal_one_process(results: list[dict[str, Any]], centring: str, what: str) -> None:
    expected = patches_on(Student(), slice(None), centring=centring)
    for rank in results:
        torch.testing.assert_close(rank[f"{centring} {what}"], expected[f"{centring} {what}"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_ranks_with_different_numbers_of_samples_share_prototypes_as_one_process(results: list[dict[str, Any]]) -> None:
    torch.testing.assert_close(torch.cat([rank["targets"] for rank in results]), targets_on(None))


if __name__ == "__main__":
    be_rank(run_rank)
