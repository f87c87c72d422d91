"""features: cache the features that a run's frozen image tower computes for its training pairs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gestalt.commands.flags import add_run
from gestalt.config.check import check_features
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.runs.experiment import check_run


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add_run(parser)
    parser.add_argument(
        "--to",
        metavar="DIR",
        required=True,
        help="folder to create or to complete; train with data.features=DIR",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="number format of the files (default: %(default)s, exact)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; only check that DIR is complete and belongs to this run",
    )


def check(arguments: Namespace) -> Experiment:
    """Return the configuration of the run whose features are cached."""
    config = load(
        arguments.experiment,
        scale=arguments.scale,
        overrides=[*arguments.overrides, "data.features=null"],
    )
    check_features(config)
    check_run(config)
    return config


def run(arguments: Namespace) -> int:
    """Write a cache of features, or continue an incomplete one.  With ``--check``, only check that
    the cache is complete and fits this run.
    """
    from gestalt.runs.features import make_cache

    folder = Path(arguments.to)
    make_cache(arguments.checked, folder, stored=arguments.dtype, only_check=arguments.check)
    return 0
