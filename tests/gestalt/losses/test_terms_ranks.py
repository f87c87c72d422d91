"""Terms of the loss on two ranks, threads or gloo's under DDP, against one process on the
concatenated batch.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from tests.gestalt.losses.toy import BUILDERS, PAIRS, SIMILAR, Toy, value_and_gradients
from tests.gestalt.ranks import be_rank, mean_over_threads, run_ranks

RANKS, LOCAL = 2, PAIRS // 2
VALID = {
    "all": None,
    "uneven": [True, False, True, False, False, True],
    "none_on_the_second": [True, True, True, False, False, False],
}


def made(term: str) -> Toy:
    """A model with a term; "nouns alike" is the term ``nouns`` without negatives among nouns that
    are alike.
    """
    return Toy("nouns", similar=SIMILAR) if term == "nouns alike" else Toy(term)


def run_rank(rank: int, folder: Path) -> None:
    """Be one rank: write the gradients that DDP averages, and the shares' mean, to a file."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
    results = {}
    for term in (*BUILDERS, "nouns alike"):
        model = nn.parallel.DistributedDataParallel(made(term), find_unused_parameters=True)
        for key, valid in VALID.items():
            values = value_and_gradients(
                model, mine, valid=None if valid is None else torch.tensor(valid)[mine]
            )
            distributed.all_reduce(values["share"])
            values["share"] /= RANKS
            results[f"{term} {key}"] = values
    torch.save(results, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each rank wrote."""
    return run_ranks(__file__, tmp_path_factory.mktemp("ranks"), ranks=RANKS)


def check(found: dict[str, Tensor], *, term: str, key: str) -> None:
    """Check that the share and every gradient are those of one process."""
    valid = VALID[key]
    expected = value_and_gradients(made(term), valid=None if valid is None else torch.tensor(valid))
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-6, atol=1e-9, msg=f"{term} {key} {name}"
        )


@pytest.mark.parametrize("key", VALID)
@pytest.mark.parametrize("term", [*BUILDERS, "nouns alike"])
def test_the_mean_over_two_threads_equals_one_process(term: str, key: str) -> None:
    models, valid = [made(term) for _ in range(RANKS)], VALID[key]

    def on_rank(rank: int) -> dict[str, Tensor]:
        mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
        return value_and_gradients(
            models[rank], mine, valid=None if valid is None else torch.tensor(valid)[mine]
        )

    check(mean_over_threads(on_rank, ranks=RANKS), term=term, key=key)


@pytest.mark.slow
@pytest.mark.parametrize("key", VALID)
@pytest.mark.parametrize("term", [*BUILDERS, "nouns alike"])
def test_two_ranks_equal_one_process(results: list[dict[str, Any]], term: str, key: str) -> None:
    for rank in results:
        check(rank[f"{term} {key}"], term=term, key=key)


if __name__ == "__main__":
    be_rank(run_rank)
