"""report: write results as one HTML page that opens from disk."""

from argparse import Namespace
from pathlib import Path

from gestalt.ledger.report import write_report
from gestalt.ledger.result import read_results


def run(arguments: Namespace) -> int:
    """Write the page and print its path."""
    print(write_report(read_results(arguments.targets, evaluations=True), Path(arguments.output)))
    return 0
