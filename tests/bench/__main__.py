"""Time the parts of Gestalt, in one process: python tests/bench [--json FILE] [--only training|evaluation|loading], in minutes.

The training step at 100, 50 and 20 % of the tokens, taken in turns so that a busy machine slows all three; the demo's step in its parts;
scenes a second; the loss at a large batch; top-down evaluation against the plain way; and, from photographs, how fast training gets its
images.  Each number is a median.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import evaluation
import loading
import training

from gestalt.ledger.record import provenance

PARTS = {"training": training, "evaluation": evaluation, "loading": loading}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part of it")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            found[name] = part.measure()
            part.show(found[name])
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({**found, "provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
