"""One cell: a fault hits a command, its exit is checked, the same command is run again, and the
files left are checked.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.shard_names import expand
from gestalt.data_modules.corpora.shards import look_up
from gestalt.data_modules.corpora.tar_index import index_tar
from tests import warm
from tests.chaos.faults import SIGNALS, Strike, working_in
from tests.chaos.leavings import Leavings, leavings
from tests.chaos.matrix import Cell
from tests.data_modules.tar_files import write_shards
from tests.gestalt.command import TWO_RANKS, environment

HOOK = str(Path(__file__).with_name("hook"))
SECONDS = 150  # of a call
TOO_LONG = 124
GRACE = 15.0  # seconds that the other processes of a call may take to end
SHARDS = [8, 8, 8, 8]
MANY_SHARDS = [4] * 8  # from eight on, several processes make their indices
# with checkpoints of 20 MB
MODEL = "text.family=open_clip text.init=random text.layers=1 text.width=32 text.heads=2"
COMMON = (
    "--scale tiny data.source=tars data.root=corpus data.cache=../cache data.limit=16 "
    f"data.batch_size=4 {MODEL}"
)
SCORED = f"{COMMON} evaluation.limit=8 evaluation.pictures=0"
QUIET = "trainer.enable_progress_bar=false"
TRAIN = f"train clippy_dino_max {SCORED} {QUIET} checkpoint_every_steps=3 resume=auto"
INIT = (
    f"pretrain --init dino {COMMON} {QUIET} pretraining.steps=4 pretraining.batch_size=4 "
    "pretraining.save_every_steps=2"
)
GRID = f"ablate ./grid.yaml {SCORED} trainer.max_steps=3"
PACK = "data pack tars data.root=corpus --to packed --shards 2"
GRID_FILE = "# Two runs.\nbase: clippy_dino_max\nvary: {image.aggregation: [max, avg]}\n"


@dataclass
class Verdict:
    """The outcome of a cell.

    Attributes:
        place: function and number of its call that was struck.
        faults: each broken promise as a sentence; empty if all were kept.
        seconds: of the cell.
    """

    cell: Cell
    place: str
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        said = "; ".join(self.faults) or "kept"
        return f"{self.cell.name} ({self.place}): {said} ({self.seconds:.1f} s)"


def slug(name: str) -> str:
    """A name as that of a folder."""
    return name.replace(", ", "-").replace(" ", "_")


def words(cell: Cell) -> tuple[str, ...]:
    """The command line of a cell."""
    line = {"init": INIT, "grid": GRID, "pack": PACK}.get(cell.phase, TRAIN)
    if cell.fault == "dead worker" and cell.phase != "index":
        line += " data.workers=1"
    return tuple(f"{line} {TWO_RANKS if cell.ranks == 2 else ''}".split())


def prepare(folder: Path, cell: Cell) -> Path:
    """Make the folder of a cell: the corpus, with its index unless that is to be made, and the
    grid.
    """
    folder.mkdir(parents=True)
    many = cell.phase == "index" and cell.fault == "dead worker"
    write_shards(folder / "corpus", MANY_SHARDS if many else SHARDS)
    (folder / "grid.yaml").write_text(GRID_FILE)
    if cell.phase != "index":
        for url in expand(str(folder / "corpus")):
            index_tar(look_up(url), cache=folder.parent / "cache")  # type: ignore[arg-type]
    return folder


def undisturbed(cell: Cell, *, parent: Path) -> Leavings:
    """Return what the command of a cell leaves when nothing happens to it."""
    folder = prepare(parent / f"undisturbed-{slug(cell.name)}", cell)
    status, errors = call(words(cell), folder, cold=False)
    assert status == 0, errors
    return leavings(folder)


def call(
    line: tuple[str, ...], folder: Path, *, cold: bool, strike: Strike | None = None
) -> tuple[int, str]:
    """Run ``gestalt LINE``, warm or, with pipes for its output, cold.  Returns status and standard
    error.
    """
    variables = environment(**(strike.variable() if strike else {}))
    variables["PYTHONPATH"] = f"{HOOK}{os.pathsep}{variables['PYTHONPATH']}"
    run: Any = subprocess.run if cold else warm.run
    try:
        done = run(
            [sys.executable, "-m", "gestalt", *line],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return TOO_LONG, ""
    return done.returncode, done.stderr


def run_cell(cell: Cell, *, seed: int, parent: Path, reference: Leavings) -> Verdict:
    """Strike, look, call again, check."""
    begin = time.monotonic()
    folder, marker = parent / slug(cell.name), parent / f"{slug(cell.name)}.struck"
    prepare(folder, cell)
    line, strike = words(cell), cell.strike(seed=seed, marker=marker, folder=folder)
    verdict = Verdict(cell, f"{strike.place.partition(':')[2]}, call {strike.call}")
    cold = cell.fault in ("full disk", "filling disk") or (cell.phase, cell.fault) == (
        "index",
        "dead worker",
    )
    status, errors = call(line, folder, cold=cold, strike=strike)
    (parent / f"{slug(cell.name)}.txt").write_text(errors)
    verdict.faults += [] if marker.exists() else ["the fault did not strike"]
    verdict.faults += ended(cell, status, errors)
    verdict.faults += orphans(folder)
    if status != 0:
        status, errors = call(line, folder, cold=False)
        (parent / f"{slug(cell.name)}.again.txt").write_text(errors)
        verdict.faults += (
            [f"the second call ended with status {status}: {errors.strip()[-300:]}"]
            if status
            else []
        )
        verdict.faults += orphans(folder)
    verdict.faults += left_over(folder)
    verdict.faults += reference.differences(leavings(folder), line=line)
    verdict.seconds = time.monotonic() - begin
    if not verdict.faults:
        shutil.rmtree(folder)
    return verdict


def ended(cell: Cell, status: int, errors: str) -> list[str]:
    """Check how a struck call ended."""
    faults = ["it did not end"] if status == TOO_LONG else []
    faults += ["it printed a traceback"] if "Traceback" in errors else []
    if cell.fault in SIGNALS:
        number = signal.Signals[cell.fault]
        allowed = {
            -number,
            128 + number,
            0,
            *((1,) if cell.phase == "grid" or cell.ranks == 2 else ()),
        }
    elif cell.fault == "slow reader":
        allowed = {0}
    else:  # Lightning kills the first rank if another fails
        allowed = {0, 1, 2, *((-signal.SIGKILL,) if cell.ranks == 2 else ())}
        lines = errors.strip().splitlines()
        said = sum(line.startswith("gestalt: ") for line in lines)  # each rank is reported once
        if status in allowed - {0} and cell.phase != "grid" and not 1 <= said <= cell.ranks:
            faults.append(f"it stopped by itself with {said} lines of error")
    return faults + ([] if status in allowed else [f"it ended with status {status}"])


def orphans(folder: Path) -> list[str]:
    """Wait for the other processes of a call to end; kill those that do not."""
    deadline = time.monotonic() + GRACE
    while (left := working_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return [f"{len(left)} processes outlived it by {GRACE:.0f} s"] if left else []


def left_over(folder: Path) -> list[str]:
    """Look for partial files and held locks."""
    faults = [f"left {path.relative_to(folder)}" for path in sorted(folder.rglob("*.partial"))]
    for path in folder.rglob(".lock"):
        with path.open("r+") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                faults.append(f"{path.relative_to(folder)} is held")
    return faults
