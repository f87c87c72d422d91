"""Check of a tokenizer of transformers against the embedding table of its model."""

from pathlib import Path
from typing import Any

PADDING = 128
"""Rows that a table may have beyond the tokens: tables are padded to a multiple of 128; of large
ones, a tenth may be unused.
"""


def check_vocabulary(tokenizer: Any, *, rows: int, name: str) -> None:
    """Check that a tokenizer of transformers knows the words of its model.

    Args:
        tokenizer: as read from a folder.
        rows: of the embedding table.
        name: the model, as the user named it, for the message.

    Raises:
        ValueError: it knows fewer tokens than the table has rows, apart from padding.
    """
    if len(tokenizer) >= rows - max(PADDING, rows // 10):
        return
    folder = Path(tokenizer.name_or_path)
    files = sorted(tokenizer.vocab_files_names.values())
    found = [file for file in files if (folder / file).is_file()]
    state = (
        f"{' and '.join(found)} in {folder} is incomplete"
        if found
        else f"{folder} has no {' or '.join(files)}"
    )
    raise ValueError(
        f"{name}: its tokenizer knows {len(tokenizer)} tokens and its embedding table has {rows}: "
        f"{state}; copy the tokenizer's files there again"
    )
