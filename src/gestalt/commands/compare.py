"""compare: put results side by side, with intervals over images."""

import sys
from argparse import Namespace

from gestalt.results.result import read_results


def run(arguments: Namespace) -> int:
    """Print the table; before it, on the standard error, every setting that differs if
    ``--details`` asks for them.
    """
    # refused before the second in which torch is imported
    results = read_results(arguments.targets)
    from gestalt.results.compare import WRITERS, compare, differing
    from gestalt.results.text import markdown_lines

    if arguments.details:
        for title, (heads, rows) in differing(results, metrics=arguments.metric).items():
            print(
                f"{title}: measured differently",
                *markdown_lines(heads, rows),
                sep="\n",
                end="\n\n",
                file=sys.stderr,
            )
    table = compare(results, metrics=arguments.metric, allow_mixed=arguments.allow_mixed)
    print(WRITERS[arguments.format](table), end="")
    return 0
