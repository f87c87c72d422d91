"""group: divide pictures into groups of similar patches, without labels."""

from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import count
from gestalt.commands.pictures import Work, add_pictures, check_pictures
from gestalt.measures.grouping.protocol import PARTITIONS


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add_pictures(parser)
    parser.add_argument(
        "--groups",
        type=count,
        default=8,
        help="maximum number of groups (default: %(default)s)",
    )


def check(arguments: Namespace) -> Work:
    """Check the names, and return the work."""
    return check_pictures(arguments, kind="groups", ending="_grouped.png", protocols=PARTITIONS)


def run(arguments: Namespace) -> int:
    """Group the pictures.  Returns 1 if a picture was skipped."""
    from gestalt.commands.mapping import map_pictures

    return map_pictures(arguments)
