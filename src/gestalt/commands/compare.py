"""compare: print results in one table, with intervals over images; or the cells of a grid, with
intervals over images and over seeds.
"""

import sys
from argparse import ArgumentParser, Namespace

from gestalt.commands.flags import add_tables


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--metric",
        metavar="KEY",
        action="append",
        default=[],
        help="such as miou or scenes/miou; repeatable (default: the headlines)",
    )
    parser.add_argument(
        "--allow-mixed",
        action="store_true",
        help="put results that were measured differently into separate columns",
    )
    parser.add_argument(
        "--details",
        action="store_true",
        help="list every setting in which results were measured differently, and the supervision",
    )
    add_tables(parser)


def run(arguments: Namespace) -> int:
    """Print the table.  With ``--details``, first print every setting that differs, and the
    supervision, to the standard error.
    """
    from gestalt.results import comparability, compare, grid
    from gestalt.results.text import WRITERS

    results, grids = grid.read_results(arguments.targets)
    mixed = arguments.allow_mixed
    if arguments.details:
        differing = compare.differing(results, metrics=arguments.metric)
        for table in (*differing, comparability.supervision_table(results)):
            print(table.title, table.markdown(), sep="\n", end="\n\n", file=sys.stderr)
    if grids and len(arguments.targets) == 1:
        metrics = compare.select_metrics(results, arguments.metric)
        compared = grid.build_tables(grids[0], metrics=metrics, allow_mixed=mixed)
        tables, method = [table.table() for table in compared], grid.METHOD
    else:
        comparison = compare.compare(results, metrics=arguments.metric, allow_mixed=mixed)
        tables, method = [comparison.table()], compare.METHOD
    print(WRITERS[arguments.format](tables, method), end="")
    return 0
