"""The rows of BENCHMARKS agree with their image sets."""

import pytest

from gestalt.data_modules.image_sets import open_image_set
from gestalt.measures.evaluation.benchmarks import BENCHMARKS


@pytest.mark.laws(BENCHMARKS)
def test_the_splits_of_a_row_are_those_that_its_image_set_knows(name, tmp_path):
    row = BENCHMARKS[name]
    root = str(tmp_path) if row.layout else None
    with pytest.raises(ValueError, match=f"split 'nonsense' is .*known: {', '.join(row.splits)}$"):
        open_image_set(row.image_set, root=root, split="nonsense", limit=None, subset=True)
