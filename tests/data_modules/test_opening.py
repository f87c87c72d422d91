"""Sources and image sets are opened by file name, and an unknown name is refused with the known
ones.
"""

import pytest

from gestalt.data_modules.sources import open_source


def test_an_unknown_source_lists_the_known_and_the_nearest():
    with pytest.raises(
        ValueError, match=r"'flikr' is unknown; did you mean 'flickr'.*flickr, .*scenes"
    ):
        open_source("flikr", root=None, size=8, seed=0, limit=None)
