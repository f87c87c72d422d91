"""Addresses in what is written, printed or published: without user info, query and fragment, which
may be secret, and without the name of the user's home directory.
"""

import os
import re
from collections.abc import Callable
from typing import Any

SCHEME = r"[A-Za-z][\w+.-]*:/"
"""The beginning of an address; ``pathlib`` merges its two slashes into one."""

USER_INFO = re.compile(rf"({SCHEME}/?)[^/\s:@]*(:[^/\n]*)?@")
ADDRESS = re.compile(rf"{SCHEME}(?:(?!,{SCHEME})\S)*")
QUERY = re.compile(r"[?#]")  # its beginning, or that of a fragment
NO_QUERY = re.compile(r"(?!(?:https?|s?ftp):)[^?]*(?:\?[^=]*)?", re.IGNORECASE)
"""An address of storage that ``?`` and ``#`` are parts of, such as ``s3://b/part-?.tar``."""

PUNCTUATION = ".,:;`'\")]}>"
"""Characters of the sentence, where an address ends in them."""


def change_texts(tree: Any, change: Callable[[str], str]) -> Any:
    """Return a tree of dicts and lists with every text in it changed, but for the keys."""
    if isinstance(tree, dict):
        return {key: change_texts(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [change_texts(value, change) for value in tree]
    return change(tree) if isinstance(tree, str) else tree


def without_secrets(text: str) -> str:
    """Return a text whose URLs have lost user info, query and fragment."""
    return ADDRESS.sub(_without_query, USER_INFO.sub(r"\1", text))


def _without_query(match: re.Match[str]) -> str:
    if NO_QUERY.fullmatch(match[0]):
        return match[0]
    kept, *query = QUERY.split(match[0], maxsplit=1)
    end = query[0][len(query[0].rstrip(PUNCTUATION)) :] if query else ""
    return kept + end


def published(text: str) -> str:
    """Return a text for others to read: ``without_secrets``, and with ``~`` in place of the user's
    home directory.
    """
    home = re.escape(os.path.expanduser("~").rstrip("/") or "~")
    return re.sub(rf"(?<![\w.-]){home}(?![\w.-])", "~", without_secrets(text))
