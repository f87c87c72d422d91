"""train: train an experiment and score it after each epoch."""

import os
from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import add_run
from gestalt.config.check import check_nodes
from gestalt.runs.experiment import experiment


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add_run(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="take a few steps, print the run's estimated speed, memory and time; stop",
    )


def check(arguments: Namespace) -> None:
    """Load ``config``."""
    arguments.config = experiment(arguments.experiment, *arguments.overrides, scale=arguments.scale)
    if not arguments.plan:  # which needs one process for any number of nodes
        check_nodes(arguments.config, os.environ)


def run(arguments: Namespace) -> int:
    """Train and score; with ``--plan`` only estimate what that takes."""
    if arguments.plan:
        from gestalt.commands.plan import plan

        return plan(arguments.config)
    from gestalt.runs.train import train

    train(arguments.config)
    return 0
