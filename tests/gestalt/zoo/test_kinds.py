"""The light table of kinds and the table of their adapters are equal, and every adapter has its parts."""

import pytest

from gestalt.runs.names import GUEST_KINDS
from gestalt.zoo.kinds import KINDS, adapter


def test_both_tables_of_kinds_are_equal():
    assert tuple(sorted({"clippy", *KINDS})) == GUEST_KINDS  # clippy's towers are built from a configuration


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_checks_opens_and_describes(kind):
    assert all(callable(getattr(adapter(kind), part)) for part in ("check", "open_model", "describe"))
