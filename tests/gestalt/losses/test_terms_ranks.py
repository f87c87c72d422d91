"""Terms of the loss on two ranks, threads or gloo's under DDP, against one process on the
concatenated batch.
"""

import pytest
import torch
from torch import distributed, nn

from gestalt.tables import TERMS
from tests.gestalt.losses.toy import EXAMPLES, PAIRS, SIMILAR, Toy, value_and_gradients
from tests.gestalt.ranks import be_rank, mean_over_threads, run_ranks

RANKS, LOCAL = 2, PAIRS // 2
VALID = {
    "all": None,
    "uneven": [True, False, True, False, False, True],
    "none_on_the_second": [True, True, True, False, False, False],
}
FIXED = (*TERMS.built_in, *EXAMPLES, "nouns alike")


def made(term: str) -> Toy:
    """A model with a term; "nouns alike" is the term ``nouns`` without negatives among nouns that
    are alike.
    """
    return Toy("nouns", similar=SIMILAR) if term == "nouns alike" else Toy(term)


@pytest.mark.parametrize("key", VALID)
@pytest.mark.laws(TERMS, FIXED)
def test_the_mean_over_two_threads_equals_one_process(name, key):
    models = [made(name) for _ in range(RANKS)]
    valid = None if VALID[key] is None else torch.tensor(VALID[key])

    def on_rank(rank):
        mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
        return value_and_gradients(models[rank], mine, valid=None if valid is None else valid[mine])

    check(mean_over_threads(on_rank, ranks=RANKS), term=name, key=key)


def check(found, *, term, key):
    """Check that the share and every gradient are those of one process."""
    valid = None if VALID[key] is None else torch.tensor(VALID[key])
    for name, value in value_and_gradients(made(term), valid=valid).items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-6, atol=1e-9, msg=f"{term} {key} {name}"
        )


def run_rank(rank):
    """Return the gradients that DDP averages, and the shares' mean."""
    mine = slice(rank * LOCAL, (rank + 1) * LOCAL)
    results = {}
    for term in FIXED:
        model = nn.parallel.DistributedDataParallel(made(term), find_unused_parameters=True)
        for key, valid in VALID.items():
            real = None if valid is None else torch.tensor(valid)[mine]
            values = value_and_gradients(model, mine, valid=real)
            distributed.all_reduce(values["share"])
            values["share"] /= RANKS
            results[f"{term} {key}"] = values
    return results


@pytest.mark.slow
def test_two_ranks_under_ddp_equal_one_process(tmp_path):
    for rank in run_ranks(__file__, tmp_path, ranks=RANKS):
        for term in FIXED:
            for key in VALID:
                check(rank[f"{term} {key}"], term=term, key=key)


if __name__ == "__main__":
    be_rank(run_rank, ranks=RANKS)
