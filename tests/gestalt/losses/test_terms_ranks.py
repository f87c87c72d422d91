"""Terms of the loss on two ranks, as threads, against one process on the concatenated batch.  The
collectives of gloo under DDP are in ``test_ranks.py``.
"""

import pytest
import torch

from gestalt.tables import TERMS
from tests.gestalt.losses.toy import EXAMPLES, PAIRS, SIMILAR, Toy, value_and_gradients
from tests.gestalt.ranks import mean_over_threads

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

    found = mean_over_threads(on_rank, ranks=RANKS)
    for part, value in value_and_gradients(made(name), valid=valid).items():
        torch.testing.assert_close(found[part], value, rtol=1e-6, atol=1e-9, msg=part)
