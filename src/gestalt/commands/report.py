"""report: write results as one HTML page that opens from disk."""

from argparse import Namespace
from pathlib import Path

from gestalt.results.grid import read_results
from gestalt.results.report import write_report


def run(arguments: Namespace) -> int:
    """Write the page and print its path; a page that was there is named as replaced."""
    output = Path(arguments.output)
    results, grids = read_results(arguments.targets, evaluations=True)
    replaced = " (replaced)" if output.exists() else ""
    page, *beside = write_report(results, output, grids)
    further = f", and {len(beside)} pages of results in {beside[0].parent}" if beside else ""
    print(f"{page}{replaced}{further}")
    return 0
