"""Checks of a source's files by their first or last bytes, before torch is imported: is it a tar, does the table have the column?

They call functions that opening the source calls too.  Checks that need more reading are left to that.
"""

import os
from collections.abc import Callable
from typing import Any

from data_modules.corpora.remote import is_remote


def check_files(source: str, *, root: str | None, caption: str | None, options: dict[str, Any]) -> None:
    """Check the files of a source; one without a row in ``CHECKS`` is not checked.

    Args:
        source: name.
        root: as ``data.root``.
        caption: as ``data.caption``.
        options: options of the source.

    Raises:
        ValueError: the files are not what the source reads.
    """
    if source in CHECKS:
        CHECKS[source](root, caption=caption, **options)


def _tars(root: str | None, **_: Any) -> None:
    from data_modules.corpora.tar_files import check_first_tar

    check_first_tar(root)


def _table(root: str | None, *, caption: str | None, image_column: str | None = None, outside: bool = True, **options: Any) -> None:
    from data_modules.corpora.table_files import check_header, find_table

    check_header(find_table(root, **options), image=image_column, caption=caption)


def _parquet(root: str | None, **_: Any) -> None:
    from data_modules.corpora.parquet_files import check_magic

    if root is not None and not is_remote(root) and os.path.isfile(root):
        check_magic(root)


CHECKS: dict[str, Callable[..., None]] = {"parquet": _parquet, "table": _table, "tars": _tars}
