"""Reading after several steps: two gloo ranks stop together at the first bad step of any, and log and keep their mean."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from gestalt.losses.contrastive import ContrastiveTerms, contrastive_loss
from gestalt.module import ContrastiveModule
from gestalt.training.finite import BadStep, FirstBadStep
from tests.gestalt.at_step import trainer_at
from tests.gestalt.ranks import be_rank, run_ranks

LOSSES = {"nan_on_the_second": ((1.0, 2.0, 3.0), (1.0, float("nan"), float("nan"))), "good": ((1.0, 2.0, 3.0), (5.0, 6.0, 8.0))}


def over_ranks(values: Tensor, reduce_op: str) -> Tensor:
    """The strategy's reduction; on one rank the values themselves."""
    if not distributed.is_initialized():
        return values
    kinds = {"min": distributed.ReduceOp.MIN, "max": distributed.ReduceOp.MAX}
    distributed.all_reduce(values, kinds.get(reduce_op, distributed.ReduceOp.SUM))
    return values / distributed.get_world_size() if reduce_op == "mean" else values


def trainer(step: int = 0, *, every: int = 3) -> Any:
    return trainer_at(step, every=every, strategy=SimpleNamespace(reduce=over_ranks), precision="32-true")


def watched(losses: tuple[float, ...], norms: tuple[float, ...] = (1.0, 1.0, 1.0)) -> BadStep | None:
    watch = FirstBadStep()
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        watch.note(trainer(step), loss=torch.tensor(loss), gradient_norm=torch.tensor(norm), logit_scale=torch.tensor(0.5 + step))
    return watch.read(trainer())


class Kept(ContrastiveModule):
    """A module that takes losses as they are given and keeps what it logs."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing, loss=contrastive_loss, make_optimizer=nothing, rate_factor=lambda _: 1.0, keep_share=1.0, seed=0)
        self.model = SimpleNamespace(logit_bias=None, logit_scale=torch.tensor(0.0))  # type: ignore[assignment]
        self.logged: list[dict[str, float]] = []

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.logged[-1][name] = float(value)

    def log_dict(self, values: Any, **_: Any) -> None:
        self.logged[-1] |= values

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return SimpleNamespace(param_groups=[{"lr": 0.1, "initial_lr": 0.1}])

    def step(self, number: int, loss: float) -> None:
        """Log a step's terms and note it, as ``training_step`` and ``on_before_optimizer_step`` do."""
        self._fabric = self._trainer = None
        self.__dict__["_at"] = trainer(number)
        self.logged.append({})
        self._loss = torch.tensor(loss)
        terms = ContrastiveTerms(self._loss, self._loss / 10, torch.zeros(()))
        self._log_step(terms, {"pairs": terms.loss}, parts=4, total=8)
        weight = torch.zeros(2, requires_grad=True)
        weight.grad = torch.ones(2)
        self.on_before_optimizer_step(torch.optim.SGD([weight]))

    @property
    def trainer(self) -> Any:  # type: ignore[override]
        return self.__dict__["_at"]

    @property
    def global_step(self) -> int:
        return int(self.trainer.global_step)


def kept(losses: tuple[float, ...]) -> dict[str, Any]:
    module, stopped = Kept(), ""
    try:
        for number, loss in enumerate(losses):
            module.step(number, loss)
    except RuntimeError as error:
        stopped = str(error)
    return {"logged": module.logged, "last": module.last_loss, "stopped": stopped}


def run_rank(rank: int, folder: Path) -> None:
    """Take the steps of each case."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {name: kept(ranks[rank]) for name, ranks in LOSSES.items()}
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(__file__, tmp_path_factory.mktemp("ranks"), ranks=2)


@pytest.mark.slow
def test_all_ranks_stop_at_the_first_bad_step_of_any_rank(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["nan_on_the_second"]["stopped"].startswith("loss is nan at step 1 (learning rate 0.1, logit scale 1)")


@pytest.mark.slow
def test_logged_and_kept_values_are_the_mean_over_ranks(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        first, second, third = rank["good"]["logged"]
        assert (first, second) == ({}, {})
        assert (third["train/loss"], third["train/accuracy"]) == pytest.approx((5.5, 0.55))
        assert (rank["good"]["last"], rank["good"]["stopped"]) == (5.5, "")


@pytest.mark.parametrize(
    ("losses", "norms", "expected"),
    [
        ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), None),
        ((1.0, float("inf"), float("nan")), (1.0, 1.0, 1.0), BadStep(1, float("inf"), 1.0, 1.5)),
        ((1.0, 2.0, 3.0), (float("inf"), 1.0, 1.0), BadStep(0, 1.0, float("inf"), 0.5)),
    ],
)
def test_the_first_bad_step_is_kept_with_its_values(losses: Any, norms: Any, expected: BadStep | None) -> None:
    assert watched(losses, norms) == expected


if __name__ == "__main__":
    be_rank(run_rank)
