"""report: write results to one HTML page that opens without a server."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "targets",
        metavar="RESULT",
        nargs="+",
        help="a run's folder (with its evaluations), a grid's, a JSON, a name",
    )
    parser.add_argument(
        "--output", default="report.html", help="HTML to write (default: %(default)s)"
    )


def run(arguments: Namespace) -> int:
    """Write the page and print its path.  Also print if an older page was replaced."""
    from gestalt.results.grid import read_results
    from gestalt.results.report import write_report

    output = Path(arguments.output)
    results, grids = read_results(arguments.targets, evaluations=True)
    replaced = " (replaced)" if output.exists() else ""
    write_report(results, output, grids)
    print(f"{output}{replaced}")
    return 0
