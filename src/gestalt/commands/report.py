"""report: write results as one HTML page that opens from disk."""

from argparse import Namespace
from pathlib import Path

from gestalt.ledger.report import write_report
from gestalt.ledger.result import read_results


def run(arguments: Namespace) -> int:
    """Write the page and print its path; a page that was there is named as replaced."""
    output = Path(arguments.output)
    replaced = " (replaced)" if output.exists() else ""
    print(f"{write_report(read_results(arguments.targets, evaluations=True), output)}{replaced}")
    return 0
