"""train: train an experiment and score it after each epoch."""

from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import add_run, add_verbose
from gestalt.config.check import check_nodes
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.runs.experiment import experiment
from gestalt.support.typed import ConfigError


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add_run(parser)
    add_verbose(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="check what the run needs, take a few steps, print estimates of speed, memory and "
        "time, and stop",
    )


def check(arguments: Namespace) -> Experiment:
    """Return the configuration.  With ``--plan``, skip the checks of files; the plan reports
    them.
    """
    name, scale, words = arguments.experiment, arguments.scale, arguments.overrides
    if not arguments.plan:
        config = experiment(name, *words, scale=scale)
        check_nodes(config.trainer)
        from gestalt.training.machine import check_machine  # after checks without torch

        check_machine(config.trainer)
        return config
    try:
        return load(name, scale=scale, overrides=words)
    except ConfigError:  # possibly a missing benchmark folder; other errors are raised again
        return load(name, scale=scale, overrides=["benchmark_root=DIR", *words])


def run(arguments: Namespace) -> int:
    """Train and score; with ``--plan`` only estimate what that takes."""
    if arguments.plan:
        from gestalt.commands.plan import plan

        return plan(arguments.checked)
    from gestalt.runs.train import train

    train(arguments.checked, verbose=arguments.verbose)
    return 0
