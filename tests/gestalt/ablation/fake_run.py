"""In place of ``python -m gestalt``: leaves what a run leaves, in half a second, and misbehaves as
``FAKE`` says.

``FAKE`` is a list of WHAT:WORD, and each does WHAT when WORD is among the overrides: ``fail`` ends
with an error, ``die`` is killed, ``hang`` saves a checkpoint and works until it is told to stop,
``silent`` ends well without a result.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from gestalt.config.folders import LOGS
from gestalt.config.loading import load
from gestalt.config.saved import ALL_IMAGES, load_saved
from gestalt.config.schema import config_hash, to_plain, to_yaml
from gestalt.results.record import FORMAT
from gestalt.support.files import file_hash

CLASSES, IMAGES = 3, 30
FAKE = (sys.executable, "-m", "tests.gestalt.ablation.fake_run")
"""The program in its place."""


def counts(score: float, seed: int) -> np.ndarray:
    """(N, 3, C) counts with about this IoU."""
    truth = np.random.default_rng(seed).integers(50, 100, (IMAGES, CLASSES))
    shared = np.minimum(
        np.round(truth * score * np.linspace(0.8, 1.2, IMAGES)[:, None]), truth
    ).astype(np.int64)
    return np.stack([shared, truth, truth], axis=1)


def record(
    config,
    score: float,
    *,
    commit: str = "c0ffee",
    resolved: str | None = None,
    sha256: str | None = None,
) -> tuple[dict, np.ndarray]:
    """Make a run's ``result.json`` and the counts of its images."""
    array = counts(score, seed=0)
    total = array.sum(axis=0)
    iou = total[0] / (total[1] + total[2] - total[0])
    protocol = {"name": "whole_square", "digest": f"size {config.image.eval_size}"}
    benchmark = {
        "set": "scenes",
        "measure": "segmentation",
        "metric_keys": ["scenes/miou", "scenes/miou_constant_background", "scenes/recall_at_10"],
        "images": IMAGES,
        "names": ["a", "b", "c"],
        "label_set": "abc",
        "protocol": protocol,
        "iou": iou.tolist(),
        "counts": {"model": total.tolist(), "patch_oracle": total.tolist()},
        "counts_rows": ["intersection", "prediction", "truth"],
    }
    made = {
        "format": FORMAT,
        "metrics": {
            "scenes/miou": float(iou.mean()),
            "scenes/miou_constant_background": 0.01,
            "scenes/recall_at_10": round(score, 3),
        },
        "experiment": config.name,
        "scale": config.scale,
        "overrides": ["<script>"],
        "config": to_plain(config),
        "config_hash": config_hash(config),
        "image_init": {
            "requested": config.image.init,
            "resolved": resolved or config.image.init,
            "sha256": sha256,
        },
        "benchmarks": [benchmark],
        "provenance": {"commit": commit, "packages": {}, "machine": {"accelerator": "none"}},
        "arrays": {},
        "steps": 8,
        "steps_planned": 8,
        "seconds": {"training": 60.0, "validation": 20.0, "other": 10.0},
        "weights_sha256": f"{config_hash(config)} {score}",
    }
    return made, array


def leave(
    folder: Path,
    config,
    made: dict,
    array: np.ndarray,
    *,
    name: str = "result.json",
    arrays: str = "per_image",
    **more: np.ndarray,
) -> None:
    """Write a run's files, and complete its record."""
    (folder / arrays).mkdir(parents=True, exist_ok=True)
    leave_arrays(folder / arrays, made, "scenes", counts=array, **more)
    (folder / name).write_text(json.dumps(made))
    if not (folder / "config.yaml").exists():
        (folder / "config.yaml").write_text(to_yaml(config))


def leave_arrays(folder: Path, made: dict, name: str, **arrays: np.ndarray) -> None:
    """Write the arrays of a set, and their hash into the record."""
    np.savez(folder / f"{name}.npz", **arrays)
    made["arrays"] = {
        name: {"file": f"{folder.name}/{name}.npz", "sha256": file_hash(folder / f"{name}.npz")}
    }


def new_folder(config) -> Path:
    """The next version's."""
    parent = LOGS / config.name / config.scale
    number = len(list(parent.glob("version_*")))
    (parent / f"version_{number}").mkdir(parents=True)
    return parent / f"version_{number}"


def score_of(config) -> float:
    """Higher for max than for avg than for cls, a little different each seed, best at the middle
    rate.
    """
    base = {"max": 0.6, "avg": 0.4, "cls": 0.2}[config.image.aggregation]
    rate = {0.002: 0.1, 0.004: 0.05}.get(config.optimizer.learning_rate, 0)
    return base + rate + 0.01 * config.seed


def train(words: list[str]) -> int:
    overrides = words[3:]
    given = dict(word.split("=", 1) for word in overrides)
    resumed = given.pop("resume", None)
    config = load(words[0], scale=words[2], overrides=[f"{key}={given[key]}" for key in given])
    with Path("started.txt").open("a") as file:
        file.write(" ".join(overrides) + "\n")
    what = {
        trick
        for trick, _, word in (one.partition(":") for one in os.environ.get("FAKE", "").split())
        if word in overrides
    }
    folder = Path(resumed) if resumed else new_folder(config)
    (folder / "config.yaml").write_text(to_yaml(config))
    if "fail" in what:
        print(
            "Traceback (most recent call last):\n  File x\nValueError: no such luck\n  and a hint"
        )
        return 1
    if "die" in what:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in what and resumed is None:
        return hang(folder)
    if "silent" not in what:
        leave(folder, config, *record(config, score_of(config)))
    return 0


def hang(folder: Path) -> int:
    """Work in vain; told to stop, save and stop."""
    import fcntl

    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: told.append(received))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    with (folder / ".lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        Path("hangs").touch()
        deadline = time.monotonic() + 300  # no test is to leave a process behind
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
    print("gestalt: stopped by SIGINT")
    return 130


def evaluate(words: list[str]) -> int:
    folder = Path(words[0])
    config = load_saved(folder / "config.yaml", overrides=[ALL_IMAGES, *words[1:]])
    result = json.loads((folder / "result.json").read_text())
    made, array = record(config, 0.3 * config.image.eval_size / 64)
    number = len(list(folder.glob("evaluations/*.json")))
    (folder / "evaluations").mkdir(exist_ok=True)
    leave(
        folder,
        config,
        {**made, "weights_sha256": result["weights_sha256"]},
        array,
        name=f"evaluations/{number}.json",
        arrays=f"evaluations/{number}",
    )
    return 0


COMMANDS = {"train": train, "eval": evaluate}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
