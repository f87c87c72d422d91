"""segment: give every pixel of pictures the most similar of several labels."""

from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import count, read_labels
from gestalt.commands.pictures import Work, add_pictures, check_pictures
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.support.typed import ConfigError


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add_pictures(parser)
    add = parser.add_argument
    add(
        "--labels",
        required=True,
        help='phrases, separated by commas: "dog, cat, grass"; one needs --threshold',
    )
    add(
        "--reading",
        help="dense inference method, such as naclip",
    )
    add(
        "--threshold",
        type=float,
        help="minimum score of a labelled pixel, a cosine in most protocols",
    )
    add("--groups", type=count, help="also show this many groups on the page")


def check(arguments: Namespace) -> Work:
    """Read the labels, check the names, and return the work."""
    if arguments.groups is not None and arguments.html is None:
        raise ConfigError(
            f"--groups {arguments.groups}: segment shows groups on the page of --html FILE; name "
            "one, or call gestalt group"
        )
    text = arguments.labels
    labels = read_labels(text)
    if len(labels) == 1 and arguments.threshold is None:
        raise ConfigError(
            f'--labels "{text}": every pixel would have the only label; name another, separated by '
            "a comma, or give a --threshold"
        )
    return check_pictures(
        arguments, kind="labels", ending="_segmented.png", protocols=PRESETS, labels=labels
    )


def run(arguments: Namespace) -> int:
    """Segment the pictures.  Returns 1 if a picture was skipped."""
    from gestalt.commands.mapping import map_pictures

    return map_pictures(arguments)
