"""reproduce: score a published number again, and print ours beside it."""

from argparse import Namespace

from gestalt.commands.process import quiet
from gestalt.commands.scoring import open_target, score
from gestalt.commands.stopping import tell
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.published import Published, published, published_number
from gestalt.support.ranks import first_rank

CHANGING = ("evaluation.", "image.", "text.")
"""Prefixes of the keys that may change a score."""


def run(arguments: Namespace) -> int:
    """List the published numbers, or score one of them and print both numbers and their
    difference.
    """
    if arguments.name is None:
        print("name, mIoU in percent, protocol, model")
        for row in published().values():
            print(
                f"{row.name:24} {row.miou:6.2f}  {row.protocol:24} {row.model}, by {row.stated_by}"
            )
        return 0
    quiet()
    reproduce(
        published_number(arguments.name),
        arguments.model,
        arguments.overrides,
        arguments.output,
    )
    return 0


def reproduce(row: Published, model: str | None, overrides: list[str], output: str | None) -> None:
    """Score a published number again, and print ours beside it.

    Args:
        row: the number.
        model: the model in place of the row's, such as its weights in a folder; None for the row's.
        overrides: further ``key=value`` words, such as ``benchmark_root=DIR``.
        output: folder for the record; None for the model's.

    Raises:
        ValueError: the data or the weights are missing; the message says where they belong.
    """
    words = [*row.overrides(), *overrides]
    if not any(word.startswith("benchmark_root=") for word in words):
        raise ValueError(
            f"reproduce {row.name}: needs the data of {row.benchmark}; write benchmark_root=DIR, "
            f"{BENCHMARKS[row.benchmark].layout}"
        )
    try:
        target = open_target(model or row.model, overrides=words, output=output)
    except ValueError as error:
        raise ValueError(
            f"reproduce {row.name}: {row.model} cannot be opened here ({error}); --model "
            "KIND:FOLDER names it on disk"
        ) from error
    scored = score(target, overrides=words)
    ours = 100 * scored.metrics[f"{row.benchmark}/miou"]
    difference = ours - row.miou
    verdict = (
        f"within {row.tolerance:g} points"
        if abs(difference) <= row.tolerance
        else f"more than {row.tolerance:g} points apart"
    )
    if first_rank():
        print(
            f"{row.name}: published {row.miou:.2f}, ours {ours:.2f}, difference {difference:+.2f} "
            f"({verdict}); {scored.images.get(row.benchmark, '')}"
        )
    tell(f"published by {row.source}")
    if model is not None:
        tell(f"the model was {model} in place of {row.model}")
    changed = [word for word in overrides if word.startswith(CHANGING)]
    if changed:
        tell(f"scored with {' '.join(changed)} besides the published settings")
