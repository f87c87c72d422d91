"""Validation sets: the message about sets that are scored in part."""

from types import SimpleNamespace
from typing import Any

import pytest

from gestalt.data_modules.validation import ImageSetDataModule


class Set(SimpleNamespace):
    """An image set of a length."""

    def __len__(self) -> int:
        return int(self.length)


@pytest.mark.parametrize(
    ("length", "official", "limit", "expected"),
    [
        (1449, 1449, None, []),
        (7, None, None, []),
        (
            7,
            1449,
            7,
            [
                "voc: 7 images are scored, the official split has 1449 (evaluation.limit=7; "
                "evaluation.limit=null scores all)"
            ],
        ),
    ],
)
def test_parts_scored_describes_every_set_that_is_scored_in_part(
    length: int, official: int | None, limit: int | None, expected: list[str]
) -> None:
    image_set: Any = Set(name="voc", length=length, official_length=official)
    assert (
        ImageSetDataModule([image_set], batch_size=1, workers=0).parts_scored(limit=limit)
        == expected
    )
