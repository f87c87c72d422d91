"""Terms of the loss on two ranks, as threads, against one process on the concatenated batch."""

import pytest
import torch
from torch import Tensor

from tests.gestalt.losses.toy import ALIKE, BUILDERS, PAIRS, Toy, value_and_gradients
from tests.gestalt.ranks import mean_over_threads

RANKS, LOCAL = 2, PAIRS // 2
VALID = {"all": None, "uneven": [True, False, True, False, False, True], "none_on_the_second": [True, True, True, False, False, False]}


def made(term: str) -> Toy:
    """A model with a term; "nouns alike" is the term ``nouns`` without negatives among nouns that are alike."""
    return Toy("nouns", alike=ALIKE) if term == "nouns alike" else Toy(term)


def check(found: dict[str, Tensor], *, term: str, key: str) -> None:
    """Check that the share and every gradient are those of one process."""
    valid = VALID[key]
    expected = value_and_gradients(made(term), valid=None if valid is None else torch.tensor(valid))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=f"{term} {key} {name}")


@pytest.mark.parametrize("key", VALID)
@pytest.mark.parametrize("term", [*BUILDERS, "nouns alike"])
def test_the_mean_over_two_threads_equals_one_process(term: str, key: str) -> None:
    models, valid = [made(term) for _ in range(RANKS)], VALID[key]

    def on_rank(rank: int) -> dict[str, Tensor]:
        mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
        return value_and_gradients(models[rank], mine, valid=None if valid is None else torch.tensor(valid)[mine])

    check(mean_over_threads(on_rank, ranks=RANKS), term=term, key=key)
