"""The losses on two ranks, threads or gloo's under DDP, against one process on the concatenated
batch.
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from gestalt.tables import LOSSES
from tests.gestalt.ranks import be_rank, mean_over_threads, run_ranks

RANKS, LOCAL = 2, 3
VALID = {
    "uneven": [True, False, True, False, True, False],
    "none_on_the_second": [True, True, True, False, False, False],
}
EQUAL = ("negatives", "positives")
CHOICES: dict[str, dict[str, Any]] = {
    f"{directions}_{equal}": {
        "name": "contrastive",
        "directions": directions,
        "equal_texts": equal,
    }
    for directions in ("sum", "mean")
    for equal in EQUAL
}
CHOICES |= {
    f"{name}_{equal}": {"name": name, "directions": "sum", "equal_texts": equal, "chunk": 2}
    for name in ("contrastive", "sigmoid")
    for equal in EQUAL
}


class TwoTowers(nn.Module):
    """The smallest dual encoder, float64; a loss by name is what it is for."""

    def __init__(self, loss: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.image = nn.Linear(5, 4, dtype=torch.float64)
        self.text = nn.Linear(6, 4, dtype=torch.float64)
        self.logit_scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        if "logit_bias" in LOSSES.row(loss).scalars:
            self.logit_bias = nn.Parameter(torch.tensor(-2.0, dtype=torch.float64))
        for parameter in (*self.image.parameters(), *self.text.parameters()):
            parameter.data.normal_(generator=generator)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return functional.normalize(self.image(image), dim=-1), functional.normalize(
            self.text(text), dim=-1
        )


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Image and text inputs and caption ids, with a caption that occurs on both ranks and one that
    occurs twice on the first.
    """
    generator = torch.Generator().manual_seed(2)
    rows = RANKS * LOCAL
    image = torch.randn(rows, 5, dtype=torch.float64, generator=generator)
    text = torch.randn(rows, 6, dtype=torch.float64, generator=generator)
    return image, text, torch.tensor([7, 8, 7, 9, 7, 10])


def terms_and_gradients(
    model: nn.Module, rows: slice | Tensor, *, name: str, **choices: Any
) -> dict[str, Tensor]:
    """Loss terms and every gradient of one backward pass over those rows."""
    image, text, ids = (part[rows] for part in batch())
    model.zero_grad()
    parameters = {
        name.removeprefix("module."): parameter for name, parameter in model.named_parameters()
    }
    scalars = {key: value for key, value in parameters.items() if key.startswith("logit_")}
    terms = LOSSES[name](*model(image, text), text_id=ids, **scalars, **choices)
    torch.autograd.backward(terms.loss)
    found = {
        name: parameter.grad.clone()
        for name, parameter in parameters.items()
        if parameter.grad is not None
    }
    measured = {name: value for name, value in terms._asdict().items() if value is not None}
    return {**{name: value.detach() for name, value in measured.items()}, **found}


def run_rank(rank):
    """Return the gradients of one rank under DDP, of all choices, and the refusal of a missing
    pair.
    """
    parallel = nn.parallel.DistributedDataParallel
    models = {name: parallel(TwoTowers(name)) for name in LOSSES.built_in}
    first = rank * LOCAL
    mine = slice(first, first + LOCAL)
    results = {}
    for key, choices in CHOICES.items():
        model = models[choices["name"]]
        results[f"all_{key}"] = on_this_rank(model, mine, **choices)
        for name, valid in VALID.items():
            results[f"{name}_{key}"] = on_this_rank(
                model, mine, **choices, valid=torch.tensor(valid)[mine]
            )
    model = models["contrastive"]
    with pytest.raises(ValueError, match="the ranks hold") as refusal:
        on_this_rank(model, slice(first, first + LOCAL - rank), **CHOICES["sum_negatives"])
    return results | {"refusal": str(refusal.value)}


def on_this_rank(model: nn.Module, rows: slice, **choices: Any) -> dict[str, Tensor]:
    """Gradients as DDP averaged them, and the terms' means over ranks."""
    found = terms_and_gradients(model, rows, **choices)
    for name in ("loss", "accuracy", "duplicates"):
        distributed.all_reduce(found[name])
        found[name] /= RANKS
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run_ranks(__file__, tmp_path_factory.mktemp("ranks"))


check = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-9)


@pytest.mark.laws(LOSSES, CHOICES)
@pytest.mark.parametrize("valid", ["all", *VALID])
def test_the_mean_over_two_threads_equals_one_process(valid, name):
    choices = CHOICES.get(name, CHOICES["sum_negatives"] | {"name": name})
    mask = torch.tensor(VALID[valid]) if valid in VALID else None

    def on_rank(rank: int) -> dict[str, Tensor]:
        mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
        return terms_and_gradients(
            TwoTowers(choices["name"]),
            mine,
            **choices,
            valid=None if mask is None else mask[mine],
        )

    expected = terms_and_gradients(
        TwoTowers(choices["name"]),
        slice(None) if mask is None else mask,
        **choices,
    )
    check(mean_over_threads(on_rank, ranks=RANKS), expected)


@pytest.mark.slow
@pytest.mark.parametrize("key", CHOICES)
@pytest.mark.parametrize("valid", ["all", *VALID])
def test_two_ranks_equal_one_process_on_the_valid_rows(results, valid, key):
    rows = torch.tensor(VALID.get(valid, [True] * RANKS * LOCAL))
    expected = terms_and_gradients(TwoTowers(CHOICES[key]["name"]), rows, **CHOICES[key])
    for rank in results:
        check(rank[f"{valid}_{key}"], expected)


@pytest.mark.slow
def test_unequal_batches_stop_every_rank(results):
    for rank in results:
        assert "the ranks hold [3, 2] rows" in rank["refusal"]


if __name__ == "__main__":
    be_rank(run_rank)
