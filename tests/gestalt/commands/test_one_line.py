"""What a user reads of an error: one line, wherever it was raised."""

import pytest
from torch.utils.data import DataLoader, Dataset

from gestalt.__main__ import one_line
from gestalt.config.schema import ConfigError


class Unreadable(Dataset[int]):
    """One sample that cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ConfigError("a.png holds values [77]; it must hold 0-20: choose others")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loading_process_reads_as_one_in_this_process(workers: int) -> None:
    with pytest.raises(ValueError, match=r"a\.png") as raised:
        next(iter(DataLoader(Unreadable(), num_workers=workers)))
    assert one_line(raised.value) == "a.png holds values [77]; it must hold 0-20: choose others"
