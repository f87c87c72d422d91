"""compare: put results side by side, with intervals over images."""

from argparse import Namespace

from gestalt.ledger.compare import compare
from gestalt.ledger.comparison_text import WRITERS
from gestalt.ledger.result import read_results


def run(arguments: Namespace) -> int:
    """Print the table."""
    table = compare(read_results(arguments.targets), metrics=arguments.metric, allow_mixed=arguments.allow_mixed)
    print(WRITERS[arguments.format](table), end="")
    return 0
