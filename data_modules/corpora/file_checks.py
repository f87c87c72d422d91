"""Check the files of a source before it is opened.  Neither torch nor NumPy is imported at
the top, so that a wrong file is refused at once.
"""

import io
import os

from gestalt.data_modules.corpora.table_files import TableFile
from gestalt.data_modules.keys import Data

MAGIC = b"PAR1"
"""Last bytes of a parquet file."""


def check_files(data: Data) -> None:
    """Check the files of a source of tars, parquet or a table by their first or last bytes, with
    functions that opening the source calls too; checks that need more reading are left to that.

    Raises:
        ValueError: the files are not what the source reads.
    """
    root, options = data.root, data.options
    if data.source == "tars":
        from gestalt.data_modules.corpora.tar_files import check_first_tar  # imports NumPy

        check_first_tar(root)
    elif data.source == "table":
        chosen = {
            name: options[name] for name in ("images", "separator", "quoted") if name in options
        }
        column = None if isinstance(data.caption, dict) else data.caption
        TableFile(root, [options.get("image_column"), column], **chosen)
    elif data.source == "parquet" and root and os.path.isfile(root):
        check_magic(root)


def check_magic(path: str) -> None:
    """Check that a local file ends as parquet does.

    Raises:
        ValueError: it does not, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - len(MAGIC)))
            end = file.read()
    except OSError as error:
        raise ValueError(f"parquet: {path} cannot be read: {error.strerror}") from error
    if end != MAGIC:
        raise ValueError(
            f"parquet: {path} cannot be read: it does not end in {MAGIC.decode()}, truncated or "
            "not parquet; copy it again"
        )
