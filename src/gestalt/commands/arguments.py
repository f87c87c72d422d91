"""Parser of the command line, and the table of commands.  Nothing heavy is imported."""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

from gestalt.commands.flags import (
    ablate_flags,
    compare_flags,
    data_tools,
    eval_flags,
    export_flags,
    features_flags,
    group_flags,
    list_flags,
    pretrain_flags,
    report_flags,
    reproduce_flags,
    score_flags,
    segment_flags,
    train_flags,
    vocabulary_flags,
)

KEYS = "key=value: any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 resume=last"
EVAL_KEYS = (
    "key=value: any key of the configuration that scoring reads, such as evaluation.benchmarks=[pascal_voc] benchmark_root=DIR "
    "evaluation.limit=100"
)
MOVED = {"sweep": "gestalt eval CKPT --sizes 224,336", "calibrate": "gestalt eval CKPT --calibrate pascal_voc"}
"""Commands of earlier versions, and what replaces them."""

PRINTING = ("vocabulary", "compare", "report", "list")
"""Commands that only read and print: for them a closed pipe is not an error."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Parse the words of a command line, or those of this process.

    Help and usage errors end the process, as argparse does.

    Returns:
        The flags; ``command``, a key of COMMANDS; ``overrides``, the key=value words; ``words``, all of them.
    """
    parser = argparse.ArgumentParser(prog="gestalt", description="Perceptual grouping in contrastive vision-language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, row in COMMANDS.items():
        command = commands.add_parser(name, help=row.help, epilog=row.keys, allow_abbrev=False)
        command.set_defaults(command=name)
        for tool in row.flags(command) or [command]:
            tool.add_argument("--debug", action="store_true", help="show the traceback of an error")
            if tool.epilog:
                tool.usage = f"{tool.format_usage().removeprefix('usage: ').rstrip()} [key=value ...]"
    given = sys.argv[1:] if words is None else words
    if given and given[0] in MOVED:
        parser.error(f"{given[0]} is part of eval now: {MOVED[given[0]]}")
    arguments, rest = parser.parse_known_args(given)  # flags and key=value words may be mixed
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        parser.error(f"{arguments.command} has no {' '.join(flags)}; gestalt {arguments.command} --help lists its flags")
    if rest and COMMANDS[arguments.command].keys is None and arguments.command != "data":
        parser.error(f"{arguments.command} takes no key=value and no further word: leave out {' '.join(rest)}")
    arguments.overrides, arguments.words = rest, given
    return arguments


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        help: what it does.
        flags: adds its flags; returns the parsers of its tools, if it has any.
        keys: help for key=value words; None if it takes none, or if its tools describe them.
        module: the file in this folder whose ``run`` is called.
        check: the function of ``early`` that is called first, if any.
    """

    help: str
    flags: Callable[[argparse.ArgumentParser], list[argparse.ArgumentParser] | None]
    keys: str | None
    module: str
    check: str | None = None


MAP_KEYS = "key=value: of the benchmark's data, such as benchmark_root=DIR evaluation.split=val benchmark_subset=true"
CELLS = "key=value: any key of the configuration but seed and resume, for every cell, such as trainer.max_epochs=2 data.root=DIR"
LINT = "look for duplicates, stray blanks and near-ties in the phrases that name classes"
INSPECT = "inspect a source of pairs, pack it into tars, or show what the model sees of it"
COMMANDS = {
    "train": Command("train an experiment and score it after each epoch", train_flags, KEYS, "train", "check_train"),
    "features": Command(
        "cache the features of a run's training pairs from its frozen towers", features_flags, KEYS, "features", "check_features_command"
    ),
    "pretrain": Command("make an image init where none can be downloaded", pretrain_flags, KEYS, "pretrain", "check_pretrain"),
    "ablate": Command("run a grid of experiments and compare its cells", ablate_flags, CELLS, "ablate", "check_ablate"),
    "eval": Command(
        "score a checkpoint, sweep image sizes or protocols, or calibrate a threshold", eval_flags, EVAL_KEYS, "evaluate", "check_eval"
    ),
    "reproduce": Command("score a published number again and print both numbers", reproduce_flags, KEYS, "reproduce", "check_reproduce"),
    "score": Command("score label maps of any system, without a model", score_flags, MAP_KEYS, "score", "check_score"),
    "vocabulary": Command(LINT, vocabulary_flags, None, "vocabulary", "check_vocabulary"),
    "compare": Command("put results side by side, with intervals over images", compare_flags, None, "compare"),
    "report": Command("write results as one HTML page that opens from disk", report_flags, None, "report"),
    "segment": Command("give every pixel of pictures the label that it resembles most", segment_flags, None, "segment", "check_segment"),
    "group": Command("divide pictures into groups of similar locations, without labels", group_flags, None, "group", "check_group"),
    "export": Command("write a trained model as a folder that loads anywhere, or as a graph", export_flags, None, "export", "check_export"),
    "data": Command(INSPECT, data_tools, None, "data", "check_data"),
    "list": Command("print what can be chosen by name: experiments, benchmarks, protocols and so on", list_flags, None, "listing"),
}
