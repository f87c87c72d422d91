"""Reading after several steps: two gloo ranks stop together at the first bad step of any."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from gestalt.training.finite import FirstBadStep, NonFiniteLoss
from tests.gestalt.at_step import trainer_at
from tests.gestalt.ranks import be_rank, run_ranks

LOSSES = {
    "nan_on_the_second": ((1.0, 2.0, 3.0), (1.0, float("nan"), float("nan"))),
    "good": ((1.0, 2.0, 3.0), (5.0, 6.0, 8.0)),
}


def over_ranks(values: Tensor, reduce_op: str) -> Tensor:
    """The strategy's reduction; on one rank the values themselves."""
    if not distributed.is_initialized():
        return values
    kinds = {"min": distributed.ReduceOp.MIN, "max": distributed.ReduceOp.MAX}
    distributed.all_reduce(values, kinds.get(reduce_op, distributed.ReduceOp.SUM))
    return values / distributed.get_world_size() if reduce_op == "mean" else values


def trainer(step: int = 0, *, every: int = 3) -> Any:
    return trainer_at(
        step, every=every, strategy=SimpleNamespace(reduce=over_ranks), precision="32-true"
    )


def watched(losses: tuple[float, ...], norms: tuple[float, ...] = (1.0, 1.0, 1.0)) -> str:
    """Return the message of the reading after three steps; empty if all were good."""
    watch = FirstBadStep()
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        watch.note(
            trainer(step),
            loss=torch.tensor(loss),
            gradient_norm=torch.tensor(norm),
            logit_scale=torch.tensor(0.5 + step),
        )
    try:
        watch.check(trainer(), rate=float)
    except NonFiniteLoss as error:
        return str(error)
    return ""


def run_rank(rank):
    """Note the steps of each case."""
    return {name: watched(ranks[rank]) for name, ranks in LOSSES.items()}


@pytest.mark.slow
def test_all_ranks_find_the_first_bad_step_of_any_rank(tmp_path):
    for rank in run_ranks(__file__, tmp_path):
        said = "loss is nan at step 1 (learning rate 1, logit scale 4.48); no checkpoint"
        assert rank["nan_on_the_second"].startswith(said)
        assert rank["good"] == ""


@pytest.mark.parametrize(
    ("losses", "norms", "expected"),
    [
        ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), ""),
        (
            (1.0, float("inf"), float("nan")),
            (1.0, 1.0, 1.0),
            "loss is inf at step 1 (learning rate 1, logit scale 4.48)",
        ),
        (
            (1.0, 2.0, 3.0),
            (float("inf"), 1.0, 1.0),
            "gradient norm is inf at step 0 (learning rate 0, logit scale 1.65)",
        ),
    ],
)
def test_the_first_bad_step_is_kept_with_its_values(losses, norms, expected):
    assert watched(losses, norms).partition(";")[0] == expected


if __name__ == "__main__":
    be_rank(run_rank)
