"""A run on the device that is killed and resumed ends with the very weights of the uninterrupted
one.
"""

from typing import Any

import pytest

from tests.gestalt.command import TRAIN, killed, result, same, succeed
from tests.gpu.models import NO_DOWNLOAD

# one size for training and evaluation: interpolated position embeddings have no deterministic
# gradient on CUDA
RUN = f"{TRAIN} image.train_size=32 trainer.deterministic=true trainer.devices=1 " + " ".join(
    word for word in NO_DOWNLOAD if word != "image.init=random"
)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_killed_run_resumes_to_the_identical_result(
    accelerator, tmp_path, monkeypatch, precision
):
    # without it cuBLAS is not deterministic
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    line = f"{RUN} trainer.accelerator={accelerator} trainer.precision={precision}"
    results: list[dict[str, Any]] = []
    for name in ("whole", "resumed"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "resumed":
            killed("step 5", line, folder=folder, threads=None)
            line = f"{line} resume=last"
        succeed(line, folder=folder, threads=None)
        results.append(result(folder))
    same(results[1], results[0])
    assert results[0]["steps"] == 8
