"""The chaos matrix: run its cells and print a verdict of each."""

import argparse
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
from tests.chaos.matrix import CELLS, Cell
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
        "--folder",
        type=Path,
        help=(
            "where the cells work; those that broke a promise stay there (default: a temporary "
            "folder)"
        ),
    )
    arguments = parser.parse_args()
    begin = time.monotonic()
    chosen = [cell for cell in CELLS if any(text in cell.name for text in arguments.only)]
    with tempfile.TemporaryDirectory(prefix="gestalt-chaos-") as name:
        verdicts = run(
            chosen, seed=arguments.seed, parent=(arguments.folder or Path(name)).resolve()
        )
    broken = [verdict for verdict in verdicts if verdict.faults]
    for verdict in broken:
        print(verdict)
    print(
        f"{len(verdicts)} cells, {len(broken)} of them broke a promise; seed {arguments.seed}, "
        f"commit {commit()}, {time.monotonic() - begin:.0f} s"
    )
    return int(bool(broken))


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
        print(verdict, file=sys.stderr, flush=True)
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


if __name__ == "__main__":
    sys.exit(main())
