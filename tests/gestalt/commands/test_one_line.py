"""An error reads as one line, wherever it was raised."""

import pytest
from torch.utils.data import DataLoader, Dataset

from gestalt.commands.faults import describe
from gestalt.config.schema import ConfigError


class Unreadable(Dataset[int]):
    """One sample that cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ConfigError("a.png holds values [77]; it must hold 0-20: choose others")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loading_process_is_described_like_one_in_the_main_process(
    workers: int,
) -> None:
    with pytest.raises(ValueError, match=r"a\.png") as raised:
        next(iter(DataLoader(Unreadable(), num_workers=workers)))
    assert describe(raised.value) == "a.png holds values [77]; it must hold 0-20: choose others"
