"""Checks of the files that pairs are read from, before torch is imported."""

from data_modules.corpora.file_checks import check_files
from gestalt.config.schema import Experiment


def check_pairs(config: Experiment) -> None:
    """Check the files of ``data.source`` by their first or last bytes; those of a mixture's parts are checked when they are opened.

    Raises:
        ValueError: the files are not what the source reads.
    """
    data = config.data
    check_files(data.source, root=data.root, caption=data.caption, options=data.options)
