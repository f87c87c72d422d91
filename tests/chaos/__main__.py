"""The chaos matrix: run its cells, print a table of verdicts, and write them as JSON."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gestalt.results.record import commit
from tests import warm
from tests.chaos.cell import Verdict, run_cell, undisturbed
from tests.chaos.matrix import FAULTS, NONSENSE, PHASES, Cell, cells
from tests.gestalt.command import environment

JOBS = 2  # cells of one rank at a time


def main() -> int:
    """Run the cells; the exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="TEXT",
        help="only the cells whose name holds one of these texts",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("lightning_logs/chaos.json"),
        help="where the verdicts go",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help=(
            "where the cells work; those that broke a promise stay there (default: a temporary "
            "folder)"
        ),
    )
    arguments = parser.parse_args()
    begin, chosen = (
        time.monotonic(),
        [cell for cell in cells() if any(text in cell.name for text in arguments.only)],
    )
    with tempfile.TemporaryDirectory(prefix="gestalt-chaos-") as name:
        verdicts = run(
            chosen, seed=arguments.seed, parent=(arguments.folder or Path(name)).resolve()
        )
    broken, seconds = (
        sum(bool(verdict.faults) for verdict in verdicts),
        round(time.monotonic() - begin),
    )
    print(table(verdicts))
    print(
        f"{len(verdicts)} cells, {broken} of them broke a promise; seed {arguments.seed}, commit "
        f"{commit()}, {seconds} s"
    )
    record = {
        "seed": arguments.seed,
        "commit": commit(),
        "seconds": seconds,
        "cells": [verdict.record() for verdict in verdicts],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    return int(broken > 0)


def run(chosen: Sequence[Cell], *, seed: int, parent: Path) -> list[Verdict]:
    """Run cells, those of one rank ``JOBS`` at a time, after the undisturbed commands that they are
    compared with.
    """
    parent.mkdir(parents=True, exist_ok=True)
    # an orderly end takes the warm process with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # it starts here, not once in each thread
    warm.run([sys.executable, "-c", ""], cwd=parent, env=environment(), timeout=60)

    def judge(cell: Cell) -> Verdict:
        verdict = run_cell(cell, seed=seed, parent=parent, reference=references[cell.reference])
        print(
            f"{cell.name}: {'; '.join(verdict.faults) or 'kept'} ({verdict.seconds} s)",
            file=sys.stderr,
            flush=True,
        )
        return verdict

    pool = ThreadPoolExecutor(JOBS)
    try:
        kinds = sorted({cell.reference for cell in chosen})
        references = dict(
            zip(kinds, pool.map(partial(undisturbed, parent=parent), kinds), strict=True)
        )
        verdicts = list(pool.map(judge, (cell for cell in chosen if cell.ranks == 1)))
    finally:
        pool.shutdown(cancel_futures=True)
    return verdicts + [judge(cell) for cell in chosen if cell.ranks == 2]


def table(verdicts: Sequence[Verdict]) -> str:
    """Format verdicts as Markdown: phases down, faults across, then the broken promises and the
    cells that there are not.
    """
    lines = []
    for ranks in sorted({verdict.cell.ranks for verdict in verdicts}):
        lines += [
            f"| {ranks} rank{'s' * (ranks > 1)} | {' | '.join(FAULTS)} |",
            f"|---{'|---' * len(FAULTS)}|",
        ]
        for phase in PHASES:
            entries = [
                [
                    v
                    for v in verdicts
                    if (v.cell.phase, v.cell.fault, v.cell.ranks) == (phase, fault, ranks)
                ]
                for fault in FAULTS
            ]
            lines.append(
                f"| {phase} | "
                f"{' | '.join(', '.join(map(_word, entry)) or '-' for entry in entries)} |"
            )
        lines.append("")
    lines += [
        f"- {verdict.cell.name} ({verdict.place}): {'; '.join(verdict.faults)}"
        for verdict in verdicts
        if verdict.faults
    ]
    lines += ["", "No such cell:"]
    for phases, faults, ranks, why in NONSENSE:
        lines.append(
            f"- {', '.join(phases)}: {'all' if faults == FAULTS else ', '.join(faults)}, ranks "
            f"{', '.join(map(str, ranks))}: {why}"
        )
    return "\n".join(lines)


def _word(verdict: Verdict) -> str:
    victim = "" if verdict.cell.victim == "self" else f" ({verdict.cell.victim_text})"
    return f"{'broken' if verdict.faults else 'kept'}{victim}"


if __name__ == "__main__":
    sys.exit(main())
