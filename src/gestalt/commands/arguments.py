"""Parser of the command line, and the table of commands.  Nothing heavy is imported."""

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from gestalt.commands.flags import add_words
from gestalt.support.addresses import without_secrets
from gestalt.support.names import nearest
from gestalt.support.plugins import search_here

COMMANDS = {
    "training_words": {
        "train": "train an experiment and score it after each epoch",
        "features": "cache image features of a run's pairs from its tower's frozen part",
        "pretrain": "make an image init where none can be downloaded",
        "ablate": "run a grid of experiments and compare its cells",
        "data": "inspect a source of pairs, pack it into tars, or show what the model sees of it",
    },
    "model_words": {
        "eval": "score a checkpoint, sweep image sizes or protocols, or calibrate a threshold",
        "reproduce": "score a published number again and print both numbers",
        "score": "score label maps of any system, without a model",
        "compare": "put results side by side, with intervals over images",
        "report": "write results as one HTML page that opens from disk",
        "export": "write a trained model as a folder that loads anywhere, or as a graph",
        "list": "print what can be chosen by name: experiments, benchmarks, protocols and so on",
    },
    "picture_words": {
        "segment": "give every pixel of pictures the label that it resembles most",
        "group": "divide pictures into groups of similar locations, without labels",
    },
}
"""A file in this folder with the flags of some commands, in ``WORDS``, and the check of each,
``check_<name>``, if it has one -> the commands, and what they do.
"""

MODULES = {"eval": "evaluate", "list": "listing", "segment": "pictures", "group": "pictures"}
"""Commands whose ``run`` is in a file of another name than theirs, in this folder."""

PRINTING = ("compare", "report", "list")
"""Commands for which a closed pipe is not an error."""


class _Parser(argparse.ArgumentParser):
    """A parser whose messages lack the secrets of URLs in the words that they quote."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end the process."""
        super().error(without_secrets(message))


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line, or those of this process.

    Help and usage errors end the process, as argparse does.

    Returns:
        The flags; ``command``, its name; ``check_words``, its check or None; ``overrides``, the
        key=value words; ``words``, all of them.
    """
    given = sys.argv[1:] if words is None else words
    parser = _Parser(
        prog="gestalt", description="Perceptual grouping in contrastive vision-language models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    names = [name for rows in COMMANDS.values() for name in rows]
    if given and not given[0].startswith("-") and given[0] not in names:
        parser.error(f"{given[0]}: no such command; {nearest(given[0], names)}")
    takes_keys = False
    for file, rows in COMMANDS.items():
        for name, text in rows.items():
            command = commands.add_parser(name, help=text, allow_abbrev=False)
            if given[:1] == [name]:
                module = import_module(f"gestalt.commands.{file}")
                add_words(command, module.WORDS[name])
                takes_keys = bool(module.WORDS[name].keys)
                command.set_defaults(check_words=getattr(module, f"check_{name}", None))
    arguments, rest = parser.parse_known_args(given)  # flags and key=value words may be mixed
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        keys = [flag.lstrip("-") for flag in flags if takes_keys and {".", "="} & {*flag}]
        mend = f"write keys without dashes, {' '.join(keys)}; " if keys else ""
        parser.error(
            f"{arguments.command} has no {' '.join(flags)}; {mend}gestalt {arguments.command} "
            "--help lists its flags"
        )
    if rest and not takes_keys:
        parser.error(
            f"{arguments.command} takes no key=value and no further word: leave out "
            f"{' '.join(rest)}"
        )
    if any("=python:" in word for word in rest):
        search_here()
    arguments.overrides = rest
    arguments.words = given
    return arguments


def check(arguments: argparse.Namespace) -> None:
    """Check the words of a command, if it has a check, and store what they stand for, such as
    ``arguments.config``.

    This runs before torch is imported, so that a typo stops in a fraction of a second.

    Raises:
        ConfigError: names the mistake and the fix.
    """
    if arguments.check_words is not None:
        arguments.check_words(arguments)
