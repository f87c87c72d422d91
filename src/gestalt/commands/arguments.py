"""Parser of the command line, and the table of commands.  Nothing heavy is imported."""

import argparse
import sys
from importlib import import_module
from typing import NamedTuple

from gestalt.commands.flags import add_words


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        help: what it does.
        words: the file in this folder with its flags, in ``WORDS``, and its check,
            ``check_<name>``, if it has one.
        module: the file in this folder whose ``run`` is called, if its name is not the command's.
    """

    help: str
    words: str
    module: str = ""


COMMANDS = {
    "train": Command("train an experiment and score it after each epoch", "training_words"),
    "features": Command(
        "cache the features of a run's training pairs from its frozen towers", "training_words"
    ),
    "pretrain": Command("make an image init where none can be downloaded", "training_words"),
    "ablate": Command("run a grid of experiments and compare its cells", "training_words"),
    "eval": Command(
        "score a checkpoint, sweep image sizes or protocols, or calibrate a threshold",
        "model_words",
        "evaluate",
    ),
    "reproduce": Command("score a published number again and print both numbers", "model_words"),
    "score": Command("score label maps of any system, without a model", "model_words"),
    "compare": Command("put results side by side, with intervals over images", "model_words"),
    "report": Command("write results as one HTML page that opens from disk", "model_words"),
    "segment": Command(
        "give every pixel of pictures the label that it resembles most", "picture_words", "pictures"
    ),
    "group": Command(
        "divide pictures into groups of similar locations, without labels",
        "picture_words",
        "pictures",
    ),
    "export": Command(
        "write a trained model as a folder that loads anywhere, or as a graph", "model_words"
    ),
    "data": Command(
        "inspect a source of pairs, pack it into tars, or show what the model sees of it",
        "training_words",
    ),
    "list": Command(
        "print what can be chosen by name: experiments, benchmarks, protocols and so on",
        "model_words",
        "listing",
    ),
}

PRINTING = ("compare", "report", "list")
"""Commands that only read and print: for them a closed pipe is not an error."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line, or those of this process.

    Help and usage errors end the process, as argparse does.

    Returns:
        The flags; ``command``, a key of COMMANDS; ``overrides``, the key=value words; ``words``,
        all of them.
    """
    given = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(
        prog="gestalt", description="Perceptual grouping in contrastive vision-language models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    takes_keys = False
    for name, row in COMMANDS.items():
        command = commands.add_parser(name, help=row.help, allow_abbrev=False)
        if given[:1] == [name]:
            words_of = import_module(f"gestalt.commands.{row.words}").WORDS[name]
            add_words(command, words_of)
            takes_keys = bool(words_of.keys)
    arguments, rest = parser.parse_known_args(given)  # flags and key=value words may be mixed
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        parser.error(
            f"{arguments.command} has no {' '.join(flags)}; gestalt {arguments.command} --help "
            "lists its flags"
        )
    if rest and not takes_keys:
        parser.error(
            f"{arguments.command} takes no key=value and no further word: leave out "
            f"{' '.join(rest)}"
        )
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
    words = import_module(f"gestalt.commands.{COMMANDS[arguments.command].words}")
    check_words = getattr(words, f"check_{arguments.command}", None)
    if check_words is not None:
        check_words(arguments)
