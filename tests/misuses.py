"""Thirty mistakes of users, each with the seconds until its one line of error: ``python tests/misuses.py [NAME ...]``."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "older_run" / "config.yaml"
TRAIN = ("train", "clippy_dino_max", "--scale", "tiny")
RUN = "lightning_logs/clippy_dino_max/tiny/version_0"
WANTED = 1.0
"""Seconds until the line, at most; torch alone takes more to import."""


class Misuse(NamedTuple):
    """A mistake: the words after ``gestalt``, and a part of the line."""

    words: tuple[str, ...]
    line: str


MISUSES = {
    "experiment": Misuse(("train", "clippy_dino_maxx"), "did you mean 'clippy_dino_max'?"),
    "scale": Misuse((*TRAIN[:3], "tny"), "did you mean 'tiny'?"),
    "own file": Misuse(("train", "./no.yaml"), "no.yaml not found"),
    "empty file": Misuse(("train", "./empty.yaml"), "sets no key"),
    "not YAML": Misuse(("train", "./broken.yaml"), "not valid YAML"),
    "taken name": Misuse(("train", "./zoo.yaml"), "rename the file"),
    "key": Misuse((*TRAIN, "image.agregation=max"), "did you mean 'aggregation'?"),
    "group": Misuse((*TRAIN, "image=max"), "given for a group"),
    "number": Misuse((*TRAIN, "seed=abc"), "must be a whole number"),
    "range": Misuse((*TRAIN, "image.keep_tokens=2"), "at most 1"),
    "word": Misuse((*TRAIN, "image.aggregation=maxi"), "did you mean 'max'?"),
    "benchmark": Misuse((*TRAIN, "evaluation.benchmarks=[scene]"), "did you mean 'scenes'?"),
    "not key=value": Misuse((*TRAIN, "seed"), "an override is key=value"),
    "make's variable": Misuse((*TRAIN, "EXP=x"), "may be a variable of make"),
    "batch of one": Misuse((*TRAIN, "data.batch_size=1"), "choose 2 or more"),
    "source": Misuse(("data", "inspect", "tarz"), "did you mean 'tars'?"),
    "data folder": Misuse((*TRAIN, "data.source=tars", "data.root=/no/where"), "data.root=/no/where: not found"),
    "long name": Misuse(("train", f"./{'x' * 300}.yaml"), "the name is too long"),
    "target": Misuse(("eval", "no_run"), "neither a checkpoint"),
    "sizes": Misuse(("eval", "no_run", "--sizes", "224"), "name two or more different sizes"),
    "labels": Misuse(("segment", "a.jpg", "--labels", "dog", "--ckpt", "x"), "name another, separated by a comma"),
    "grid": Misuse(("ablate", "agregation"), "did you mean 'aggregation'?"),
    "resume": Misuse(("train", "clip_baseline", "--scale", "tiny", "resume=last"), "no checkpoint under"),
    "backbone": Misuse((*TRAIN, "image.backbone=vit_tinny"), "image.backbone"),
    "no tar": Misuse((*TRAIN, "data.source=tars", "data.root=text.tar"), "text.tar"),
    "no table": Misuse(("data", "inspect", "table", "data.root=text.csv"), "text.csv"),
    "cut checkpoint": Misuse(("eval", RUN), "last.ckpt cannot be read as a state dict"),
    "garbled result": Misuse(("compare", "broken.json"), "not the JSON of a run"),
    "zoo folder": Misuse(("eval", "zoo:open_clip:."), "the folder has no open_clip_config.json"),
    "zoo file": Misuse(("eval", "zoo:clippy:no.pt"), "file not found"),
}


def prepare(folder: Path) -> None:
    """Write the files that the mistakes name."""
    for name, text in {
        "empty.yaml": "",
        "broken.yaml": "image: [",
        "zoo.yaml": "image: {aggregation: avg}\n",
        "text.tar": "not a tar",
        "text.csv": "a,b\n1,2\n",
        "broken.json": json.dumps([1])[:-1],
        f"{RUN}/config.yaml": GOLDEN.read_text(),
        f"{RUN}/checkpoints/last.ckpt": "PK",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def is_answered(status: int, stderr: str, *, misuse: Misuse) -> bool:
    """True if a command ended in bad input or failure, with one line of error that has the expected part, and no traceback."""
    errors = [line for line in stderr.splitlines() if line.startswith("gestalt: ")]
    return status in (1, 2) and len(errors) == 1 and misuse.line in errors[0] and "Traceback" not in stderr


def main(names: list[str]) -> int:
    """Print the table; the exit status is 1 if a mistake is not answered as it should."""
    wrong = 0
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n{'mistake':<16} {'seconds':>7}  status, wanted within {WANTED:g} s")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in names or MISUSES:
            command = [sys.executable, "-m", "gestalt", *MISUSES[name].words]
            begin = time.monotonic()
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            seconds = time.monotonic() - begin
            answered = is_answered(done.returncode, done.stderr, misuse=MISUSES[name])
            wrong += not answered
            late = "" if seconds < WANTED else "  late"
            shown = "" if answered else f"  {done.stderr.strip()[-300:]}"
            print(f"{name:<16} {seconds:>7.2f}  {done.returncode}{late}{shown}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
