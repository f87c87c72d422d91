"""reproduce: score a published number again, and print ours beside it."""

from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import add_keys
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.published import published, published_number
from gestalt.support.typed import ConfigError

CHANGING = ("evaluation.", "image.", "text.")
"""Prefixes of the keys that may change a score."""


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "name",
        nargs="?",
        help="a published number, such as sclip/voc21 (default: list all)",
    )
    parser.add_argument(
        "--model",
        metavar="KIND:NAME",
        help="a model instead of the published one: open_clip:FOLDER",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the results file (default: the model's)"
    )
    add_keys(parser)


def check(arguments: Namespace) -> None:
    """Check the name, that key=value words come with one and leave its settings as they are, and
    that code is named on the command line.
    """
    words = [word for word in arguments.overrides if "=" not in word]
    if words or (arguments.name is not None and "=" in arguments.name):
        raise ConfigError(
            f"reproduce: {' '.join(words) or arguments.name}: name one published number, then "
            "key=value words"
        )
    if arguments.name is None:
        return
    row = published_number(arguments.name)
    row.check(arguments.overrides)
    if row.model.startswith("python:") and arguments.model is None:
        raise ConfigError(
            f"reproduce {row.name}: runs code of your own; name it by --model {row.model}, of "
            "docs/examples"
        )
    if not any(word.startswith("benchmark_root=") for word in arguments.overrides):
        raise ConfigError(
            f"reproduce {row.name}: needs the data of {row.benchmark}; write benchmark_root=DIR, "
            f"{BENCHMARKS[row.benchmark].layout}"
        )


def run(arguments: Namespace) -> int:
    """List the published numbers, or score one of them and print both numbers and their
    difference.

    Raises:
        ValueError: the data or the weights are missing; the message says where they belong.
    """
    if arguments.name is None:
        print("name, value in percent, metric, protocol, model")
        for row in published().values():
            print(
                f"{row.name:31} {row.value:6.2f}  {row.metric:25}  {row.protocol:24} {row.model}, "
                f"by {row.stated_by}"
            )
        return 0
    from gestalt.results.run_record import scored_images
    from gestalt.runs.score import open_target, score
    from gestalt.support.process import first_rank, tell

    row = published_number(arguments.name)
    model = arguments.model
    words = [*row.overrides(), *arguments.overrides]
    try:
        target = open_target(model or row.model, overrides=words, output=arguments.output)
    except ValueError as error:
        raise ValueError(
            f"reproduce {row.name}: {row.model} cannot be opened here ({error}); --model "
            "KIND:FOLDER names it on disk"
        ) from error
    record = score(target, overrides=words).record
    ours = 100 * record["metrics"][f"{row.benchmark}/{row.metric}"]
    difference = ours - row.value
    verdict = (
        f"within {row.tolerance:g} points"
        if abs(difference) <= row.tolerance
        else f"more than {row.tolerance:g} points apart"
    )
    if first_rank():
        print(
            f"{row.name}: published {row.value:.2f}, ours {ours:.2f}, difference {difference:+.2f} "
            f"({verdict}); {scored_images(record).get(row.benchmark, '')}"
        )
    tell(f"published by {row.source}")
    if model not in (None, row.model):
        tell(f"the model was {model} in place of {row.model}")
    changed = [word for word in arguments.overrides if word.startswith(CHANGING)]
    if changed:
        tell(f"scored with {' '.join(changed)} besides the published settings")
    return 0
