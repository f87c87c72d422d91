"""Progress bars of transformers, which shows one for each file of weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hide_bars() -> Iterator[None]:
    """Within the context, transformers shows no progress bar."""
    from transformers.utils import logging

    bars: Any = logging
    before = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            bars.enable_progress_bar()
