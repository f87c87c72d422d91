"""Remove secrets from text that is written, printed or published.

URLs lose user info, query and fragment, which may be secret. Published text also loses the path of
the user's home directory.
"""

import os
import re
from collections.abc import Callable
from typing import Any

SCHEME = r"[A-Za-z][\w+.-]*:/"
"""The beginning of an address; ``pathlib`` merges its two slashes into one."""

USER_INFO = re.compile(
    rf"({SCHEME}/?)[^/\s:@]*(?::(?!\s)(?:[^/\n]*|(?!\d+[/:,;.)\s]).*?))?@(?:[^/\s@]*@)*"
)
"""A user and a password, which ends at the last ``@`` before a ``/``.  A password that has a ``/``
ends at the first ``@`` after it, unless it is a port.
"""

WILDCARD = r"\?(?![\w+=&%])(?=[^=\s]*\.|[^\w\s]*(?!\S))[^?=\s]*"
PATTERN = re.compile(rf"(?!(?:https?|s?ftp):)[^?\s]*(?:{WILDCARD})*(?!\S)", re.IGNORECASE)
"""An address of storage that ``?`` and ``#`` are parts of, such as ``s3://b/part-?.tar``.  A ``?``
is a wildcard if neither a letter nor a digit comes next, and a file ending or nothing after that;
else it begins a query.
"""

PUNCTUATION = ".,:;`'\")]}>"
"""Characters that belong to the sentence if an address ends in them."""

END = rf",{SCHEME}|\s+{SCHEME}|\s\||[{re.escape(PUNCTUATION)}]+(?!\S)"
ADDRESS = re.compile(rf"({SCHEME}(?:(?!,{SCHEME})[^\s?#])*)[?#](?:(?!{END}).)*")
"""An address with its query.  A query may have blanks, so it ends where a part of the sentence, a
quotation or a cell of a table ends.
"""


def change_texts(tree: Any, change: Callable[[str], str]) -> Any:
    """Apply a function to every text in a tree of dicts and lists, except to keys."""
    if isinstance(tree, dict):
        return {key: change_texts(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [change_texts(value, change) for value in tree]
    return change(tree) if isinstance(tree, str) else tree


def without_secrets(text: str) -> str:
    """Remove user info, query and fragment from the URLs in a text."""
    return ADDRESS.sub(_without_query, USER_INFO.sub(r"\1", text))


def _without_query(match: re.Match[str]) -> str:
    return match[0] if PATTERN.match(match[0]) else match[1]


def published(text: str) -> str:
    """Prepare a text for publication: apply ``without_secrets``, and replace the user's home
    directory with ``~``.
    """
    home = re.escape(os.path.expanduser("~").rstrip("/") or "~")
    return re.sub(rf"(?<![\w.-]){home}(?![\w.-])", "~", without_secrets(text))
