"""Every adapter has its parts."""

import pytest

from gestalt.zoo.kinds import KINDS, adapter


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_checks_opens_and_describes(kind):
    assert all(callable(getattr(adapter(kind), part)) for part in ("check", "open_model", "describe"))
