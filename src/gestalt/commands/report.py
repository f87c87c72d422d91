"""report: write results as one HTML page that opens from disk."""

from argparse import Namespace
from pathlib import Path

from gestalt.results.result import read_results


def run(arguments: Namespace) -> int:
    """Write the page and print its path; a page that was there is named as replaced."""
    output = Path(arguments.output)
    # refused before the second in which torch is imported
    results = read_results(arguments.targets, evaluations=True)
    from gestalt.results.report import write_report

    replaced = " (replaced)" if output.exists() else ""
    print(f"{write_report(results, output)}{replaced}")
    return 0
