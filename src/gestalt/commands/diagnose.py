"""diagnose: say where segmentation results lose mIoU, by cause, with intervals over images."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from gestalt.commands.flags import add_tables, check_ending
from gestalt.support.typed import ConfigError


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--metric",
        metavar="SET/miou",
        action="append",
        default=[],
        help="such as scenes/miou; repeatable (default: miou of every segmentation set)",
    )
    parser.add_argument(
        "--details", action="store_true", help="add tables of classes, borders and areas"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="PNG file to write, with a bar of causes for each result"
    )
    add_tables(parser)


def check(arguments: Namespace) -> None:
    """Refuse a picture whose name does not end in .png, and ``--details`` in a format that cannot
    show the details.
    """
    check_ending("--output", arguments.output, ".png")
    if arguments.details and arguments.format != "markdown":
        raise ConfigError(
            f"--details --{arguments.format}: the details are written as Markdown only; leave out "
            "one of the two"
        )


def run(arguments: Namespace) -> int:
    """Print the tables, and write the picture."""
    from gestalt.results.diagnosis import METHOD, picture, tables
    from gestalt.results.grid import read_results
    from gestalt.results.text import WRITERS
    from gestalt.support.files import write_whole

    results, _ = read_results(arguments.targets)
    shown = tables(results, metrics=arguments.metric, details=arguments.details)
    print(WRITERS[arguments.format](shown, METHOD), end="")
    if arguments.output:
        write_whole(Path(arguments.output), picture(shown))
        print(arguments.output, file=sys.stderr)
    return 0
