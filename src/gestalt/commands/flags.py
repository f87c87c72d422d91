"""The words of a command as data, and help texts and types that the flags of several share."""

import argparse
from typing import Any, NamedTuple

MODEL = (
    "a checkpoint, a run's folder, an experiment's name for its newest finished plain run, an "
    "exported folder or its name on the hub, "
    "or another model as KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
KEYS = (
    "key=value: any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 "
    "resume=last"
)
REPEATED = {"action": "append", "default": []}
"""Keywords of a flag that may be given several times."""


class Words(NamedTuple):
    """The words of a command.

    Attributes:
        flags: ``--flag METAVAR``, ``--flag`` or the name of a positional argument -> its help, or
            the keywords of ``add_argument``. With a help alone, ``--flag`` is a switch.
        keys: help on its key=value words; empty if it takes none.
        tools: a tool of the command -> its help, and the flags that it has besides ``flags``.
    """

    flags: dict[str, Any]
    keys: str = ""
    tools: dict[str, Any] | None = None


def add_words(command: argparse.ArgumentParser, words: Words) -> None:
    """Add the flags and tools of a command to its parser."""
    if words.tools:
        group = command.add_subparsers(required=True, metavar="TOOL", dest="tool")
        for name, (text, flags) in words.tools.items():
            tool = group.add_parser(name, help=text, allow_abbrev=False)
            add_words(tool, Words(flags | words.flags, words.keys))
        return
    for spelling, row in words.flags.items():
        *names, last = spelling.split(" ")
        keywords = row if isinstance(row, dict) else {"help": row}
        if names:
            keywords = {**keywords, "metavar": last}
        elif isinstance(row, str) and last.startswith("-"):
            keywords = {**keywords, "action": "store_true"}
        command.add_argument(*(names or [last]), **keywords)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if words.keys:
        command.epilog = words.keys
        usage = command.format_usage().removeprefix("usage: ")
        command.usage = f"{usage.rstrip()} [key=value ...]"


def count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {word!r}")
    return int(word)
