"""Mistakes of users are each reported in one line before torch is imported."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from tests.gestalt.command import environment

GOLDEN = Path(__file__).parent / "golden" / "older_run" / "config.yaml"
TRAIN = "train clippy_dino_max --scale tiny"
RUN = "lightning_logs/clippy_dino_max/tiny/version_0"
ADDRESS = "http://user:pa/55word@host/x.tar?token=T0 ken"

MISUSES = {  # words after gestalt, and a part of the line
    "experiment": ("train clippy_dino_maxx", "did you mean 'clippy_dino_max'?"),
    "scale": ("train clippy_dino_max --scale tny", "did you mean 'tiny'?"),
    "own file": ("train ./no.yaml", "no.yaml: not found"),
    "not YAML": ("train ./broken.yaml", "not valid YAML"),
    "key": (f"{TRAIN} image.agregation=max", "did you mean 'image.aggregation'?"),
    "part of a key": (f"{TRAIN} image.size=8", "did you mean 'image.eval_size'?"),
    "key of another group": (f"{TRAIN} image.batch_size=8", "did you mean 'data.batch_size' or"),
    "key without its group": (
        f"{TRAIN} aggregation=avg",
        "did you mean 'image.aggregation' or 'text.aggregation'?",
    ),
    "other word for a key": (f"{TRAIN} optimizer.lr=1", "did you mean 'optimizer.learning_rate'?"),
    "other word for a value": (f"{TRAIN} image.aggregation=mean", "did you mean 'avg'?"),
    "group": (f"{TRAIN} image=max", "given for a group"),
    "number": (f"{TRAIN} seed=abc", "must be a whole number"),
    "optimiser": (f"{TRAIN} optimizer.name=nadamwx", "did you mean 'nadamw'?"),
    "range": (f"{TRAIN} image.keep_tokens=2", "at most 1"),
    "make's variable": (f"{TRAIN} EXP=x", "may be a variable of make"),
    "source": ("data inspect tarz", "did you mean 'tars'?"),
    "data folder": (
        f"{TRAIN} data.source=tars data.root=/no/where",
        "data.root=/no/where: not found",
    ),
    "address": (f"train gestalt --scale '{ADDRESS}'", "/http:/host/x.tar: not found"),
    "long name": (f"train ./{'x' * 300}.yaml", "the name is too long"),
    "target": ("eval no_run", "neither a checkpoint"),
    "second target": ("eval timm:a scenez", "scenez: neither a checkpoint"),
    "no target": ("eval ''", "the name of the model is empty"),
    "kind of model": ("eval tim:vit", "timm:NAME; did you mean 'timm'?"),
    "separator": ("data inspect table data.root=a.csv", 'data.options.separator=";"'),
    "sizes": ("eval no_run --sizes 224", "name two or more different sizes"),
    "labels": ("segment a.jpg --labels dog --ckpt x", "name another, separated by a comma"),
    "grid": ("ablate agregation", "did you mean 'aggregation'?"),
    "resume": ("train clip_baseline --scale tiny resume=last", "no checkpoint under"),
    "backbone": (f"{TRAIN} image.backbone=vit_tinny", "image.backbone"),
    "no tar": (f"{TRAIN} data.source=tars data.root=text.tar", "text.tar"),
    "garbled result": ("compare broken.json", "not the JSON of a run"),
    "zoo folder": ("eval zoo:open_clip:.", "the folder has no open_clip_config.json"),
}


def prepare(folder: Path) -> None:
    """Write the files that the mistakes name."""
    for name, text in {
        "broken.yaml": "image: [",
        "a.csv": "image;caption\n",
        "text.tar": "not a tar",
        "broken.json": json.dumps([1])[:-1],
        f"{RUN}/config.yaml": GOLDEN.read_text(),
        f"{RUN}/checkpoints/last.ckpt": "PK",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


HEAVY = ("torch", "lightning", "timm", "transformers", "open_clip", "matplotlib")
ONE_PROCESS = """
import contextlib, io, json, sys
from gestalt.__main__ import main
answers = {}
for name, words in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(words)
    answers[name] = status, errors.getvalue(), sorted(sys.modules)
json.dump(answers, sys.stdout)
"""


def test_a_mistake_is_reported_in_one_line_before_torch_is_imported(tmp_path):
    prepare(tmp_path)
    words = json.dumps({name: shlex.split(line) for name, (line, _) in MISUSES.items()})
    command = [sys.executable, "-c", ONE_PROCESS]
    done = subprocess.run(
        command,
        input=words,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for name, (status, errors, modules) in json.loads(done.stdout).items():
        told = [line for line in errors.splitlines() if line.startswith("gestalt: ")]
        assert status in (1, 2), f"{name}: {status} {errors}"
        assert len(told) == 1, f"{name}: {errors}"
        assert MISUSES[name][1] in told[0], name
        assert "Traceback" not in errors, name
        assert not set(HEAVY) & set(modules), name
