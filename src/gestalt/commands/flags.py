"""Flags, texts and checks that several commands share."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gestalt.support.arguments import is_unicode
from gestalt.support.plugins import find_code
from gestalt.support.typed import ConfigError, read_values

if TYPE_CHECKING:
    from gestalt.ablation.launchers import ClusterLauncher, LocalLauncher

MODEL = (
    "a checkpoint, the folder of a run, the name of an experiment for its latest finished run "
    "with default settings, an exported folder or its name on the hub, or an external model as "
    "KIND:NAME, such as open_clip:FOLDER (docs/evaluation.md)"
)
KEYS = "any key of the configuration, such as trainer.max_epochs=2 data.root=DIR seed=1 resume=last"


def add_keys(parser: argparse.ArgumentParser, help: str = KEYS) -> None:
    """Let a command take key=value words, also between its flags, as ``overrides``."""
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help=help)


def add_code(parser: argparse.ArgumentParser) -> None:
    """Let a command take the key=value words that name a model's code, as ``overrides``."""
    add_keys(
        parser,
        "the Python code that a model from elsewhere names, to allow that it runs, such as "
        "image.family=python:towers:Dinov2",
    )


def check_code(arguments: argparse.Namespace) -> None:
    """Refuse ``overrides`` other than words that name code.

    Raises:
        ConfigError: names the word.
    """
    for word in arguments.overrides:
        if not find_code(word):
            raise ConfigError(
                f"{word}: {arguments.command} takes no such word here; the only key=value words "
                "that it takes name the code of a model, such as image.family=python:towers:Dinov2"
            )


def add_scale(parser: argparse.ArgumentParser, default: str = "demo") -> None:
    """Add ``--scale``."""
    parser.add_argument(
        "--scale",
        default=default,
        help="one of `gestalt list scales`, or a YAML file of yours (default: %(default)s)",
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``--verbose``."""
    parser.add_argument("--verbose", action="store_true", help="print the IoU of each class too")


def add_tables(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the results to print as tables, and the format of the tables."""
    parser.add_argument(
        "targets",
        metavar="RESULT",
        nargs="+",
        help="a run's or a grid's folder, a result's JSON, or an experiment",
    )
    for name in ("markdown", "latex", "csv"):
        parser.add_argument(
            f"--{name}",
            dest="format",
            action="store_const",
            const=name,
            default="markdown",
            help="write %(const)s (default: %(default)s)",
        )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that define a run: an experiment, a scale, and key=value words."""
    parser.add_argument(
        "experiment",
        help="one of `gestalt list experiments`, or the path of a YAML file of yours",
    )
    add_scale(parser)
    add_keys(parser)


def check_ending(flag: str, file: str | None, *endings: str) -> None:
    """Check that a file's name, if given, has one of the allowed endings."""
    if file is not None and not file.lower().endswith(endings):
        raise ConfigError(f"{flag} {file}: name a file that ends in {endings[0]}")


def read_labels(text: str) -> list[str]:
    """Parse the labels of ``--labels``, which are separated by commas.

    Raises:
        ConfigError: there is no label, a label is repeated, or the text is not UTF-8.
    """
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise ConfigError(f'--labels "{text}": name at least one, such as "dog, grass"')
    if not is_unicode(text):
        raise ConfigError(f"--labels {text!a}: not UTF-8; write the labels in UTF-8")
    if len(set(labels)) < len(labels):
        raise ConfigError(f'--labels "{text}": a label is repeated; name each once')
    return labels


def pair(word: str) -> tuple[str, str]:
    """Parse the word ``key=value``."""
    key, sign, value = word.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"write KEY=VALUE, not {word!r}")
    return key, value


def count(word: str) -> int:
    """Parse an integer above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"choose a whole number above 0, not {word!r}")
    return int(word)


def parameter(word: str) -> tuple[str, Any]:
    """Parse the word ``key=value``, whose value is YAML."""
    key, value = pair(word)
    try:
        return key, read_values(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{key}: not YAML, write it in quotes: {error}") from error


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add the flags that set where jobs run and how many run at a time."""
    add = parser.add_argument
    add("--jobs", type=count, help="processes at a time (default: 1; all at once on SLURM)")
    add("--cluster", choices=("slurm", "local"), help="submit each process through submitit")
    add(
        "--submitit",
        metavar="KEY=value",
        type=parameter,
        action="append",
        default=[],
        help="a parameter for submitit, such as timeout_min=600; repeatable",
    )


def choose_launcher(
    arguments: argparse.Namespace, folder: Path
) -> "LocalLauncher | ClusterLauncher":
    """Return the launcher that the flags of ``add_launcher`` ask for.  It writes logs to
    ``folder``.

    Raises:
        ConfigError: parameters for a cluster are given without a cluster, or submitit refuses the
            parameters.
    """
    from gestalt.ablation.launchers import ClusterLauncher, LocalLauncher

    jobs, cluster, parameters = arguments.jobs, arguments.cluster, dict(arguments.submitit)
    if cluster is not None:
        limit = jobs or (sys.maxsize if cluster == "slurm" else 1)
        return ClusterLauncher(cluster, folder / "jobs", limit, parameters)
    if parameters:
        raise ConfigError(f"--submitit {' '.join(parameters)}: needs --cluster slurm or local")
    return LocalLauncher(jobs or 1, folder / "logs")
