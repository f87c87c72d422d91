"""A run on the device that is killed and resumed ends with the very weights of the uninterrupted
one.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.gestalt.command import KILL, gestalt, result
from tests.gpu.models import NO_DOWNLOAD

# one size for training and evaluation: interpolated position embeddings have no deterministic
# gradient on CUDA
WORDS = (
    *(
        "train",
        "clippy_dino_max",
        "--scale",
        "tiny",
        "image.train_size=32",
        "checkpoint_every_steps=3",
    ),
    *("trainer.deterministic=true", "trainer.devices=1", "trainer.enable_progress_bar=false"),
    *(word for word in NO_DOWNLOAD if word != "image.init=random"),
)
SAME = ("weights_sha256", "loss", "steps", "metrics", "best")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_killed_run_resumes_to_the_identical_result(
    accelerator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    # without it cuBLAS is not deterministic
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    words = (*WORDS, f"trainer.accelerator={accelerator}", f"trainer.precision={precision}")
    results: list[dict[str, Any]] = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "killed":
            killed = gestalt("step", "5", *words, folder=folder, program=(KILL,), threads=None)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = gestalt(
            *words, *(("resume=last",) if name == "killed" else ()), folder=folder, threads=None
        )
        assert done.returncode == 0, done.stderr
        results.append(result(folder))
    assert {key: results[1][key] for key in SAME} == {key: results[0][key] for key in SAME}
    assert results[0]["steps"] == 8
