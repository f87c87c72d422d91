"""The words of a command as data, and help texts and types that the flags of several share."""

import argparse
from typing import Any, NamedTuple

from gestalt.support.typed import ConfigError

MODEL = (
    "a checkpoint, a run's folder, an experiment's name for its newest finished plain run, an "
    "exported folder or its name on the hub, "
    "or another model as KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
KEYS = (
    "key=value: any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 "
    "resume=last"
)


class Words(NamedTuple):
    """The words of a command.

    Attributes:
        flags: ``--flag METAVAR``, ``--flag`` or the name of a positional argument -> its help, or
            its help and its default, or the keywords of ``add_argument``. With a help alone,
            ``--flag`` is a switch; one that ends in `` ...`` may be given several times. An ``N``
            is an integer above 0.
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
        *names, last = spelling.removesuffix(" ...").split(" ")
        if isinstance(row, tuple):
            row = {"help": f"{row[0]} (default: %(default)s)", "default": row[1]}
        keywords = {"help": row} if isinstance(row, str) else dict(row)
        if names:
            keywords["metavar"] = last
            if last == "N":
                keywords["type"] = count
        elif isinstance(row, str) and last.startswith("-"):
            keywords["action"] = "store_true"
        if spelling.endswith("..."):
            flag = spelling.startswith("-")
            keywords |= {"action": "append", "default": []} if flag else {"nargs": "+"}
        command.add_argument(*(names or [last]), **keywords)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if words.keys:
        command.epilog = words.keys
        usage = command.format_usage().removeprefix("usage: ")
        command.usage = f"{usage.rstrip()} [key=value ...]"


def check_ending(flag: str, file: str | None, *endings: str) -> None:
    """Refuse a file, if one is named, whose name has none of some endings."""
    if file is not None and not file.lower().endswith(endings):
        raise ConfigError(f"{flag} {file}: name a file that ends in {endings[0]}")


def count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"choose a whole number above 0, not {word!r}")
    return int(word)
