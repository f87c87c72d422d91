"""compare: put results side by side, with intervals over images; or the cells of a grid, with
intervals over images and over seeds.
"""

import sys
from argparse import Namespace

from gestalt.results.ablation import GRID_WRITERS, build_tables
from gestalt.results.compare import WRITERS, compare, differing, select_metrics
from gestalt.results.reading import read_results
from gestalt.results.text import markdown_lines


def run(arguments: Namespace) -> int:
    """Print the table; before it, on the standard error, every setting that differs if
    ``--details`` asks for them.
    """
    results, grids = read_results(arguments.targets)
    if arguments.details:
        for title, (heads, rows) in differing(results, metrics=arguments.metric).items():
            print(
                f"{title}: measured differently",
                *markdown_lines(heads, rows),
                sep="\n",
                end="\n\n",
                file=sys.stderr,
            )
    if grids and len(arguments.targets) == 1:
        metrics = select_metrics(results, arguments.metric)
        tables = build_tables(grids[0], metrics=metrics, allow_mixed=arguments.allow_mixed)
        print(GRID_WRITERS[arguments.format](tables), end="")
    else:
        table = compare(results, metrics=arguments.metric, allow_mixed=arguments.allow_mixed)
        print(WRITERS[arguments.format](table), end="")
    return 0
