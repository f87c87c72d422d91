"""A sweep over image sizes: one evaluation per size, one table, one plot."""

import json
import shutil

import pytest

from gestalt.data_modules.pixels.pictures import read_picture
from gestalt.results.compare import Column
from gestalt.results.scores import Score
from gestalt.runs.sweep import plot_sizes
from tests.gestalt.command import TINY, TWO_RANKS, refused, succeed

EVAL = "eval lightning_logs/clippy_random_max/tiny/version_0"
SWEEP = f"{EVAL} --sizes"


def test_the_plot_has_a_line_a_headline_and_marks_the_training_size():
    values = {"birds/worst_group": {32: 0.5}, "scenes/miou": {32: 0.2, 64: 0.3}}
    columns = [
        Column(
            key, "", "", "", {f"size={size}": Score({0: one}) for size, one in by_size.items()}, {}
        )
        for key, by_size in values.items()
    ]
    axes = plot_sizes(columns, trained_at=48, title="x").axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert (drawn["birds/worst_group"], drawn["scenes/miou"]) == ([32], [32, 64])
    assert axes.lines[-1].get_xdata()[0] == 48
    assert axes.get_xlabel() == "test size, pixels a side, dotted: that of training"
    assert plot_sizes(columns, trained_at=None, title="x").axes[0].get_xlabel()[-4:] == "side"


@pytest.mark.slow
def test_a_sweep_writes_one_evaluation_per_size_one_json_and_one_plot(
    tmp_path,
):
    line = f"train clippy_random_max {TINY} trainer.max_steps=2 checkpoint_keep=2"
    succeed(line, folder=tmp_path)
    line = (
        f"{SWEEP} 64,32 evaluation.benchmarks=[scenes,scenes_waterbirds] evaluation.limit=7 "
        "trainer.enable_progress_bar=false"
    )
    succeed(line, folder=tmp_path)
    (path,) = tmp_path.glob("lightning_logs/*/*/version_0/sweeps/*.json")
    record = json.loads(path.read_text())
    assert (record["sizes"], record["trained_at"]) == ([32, 64], 64)
    assert record["images"] == {"scenes": "7 of 307 images", "scenes_waterbirds": "7 of 604 images"}
    assert record["evaluations"] == ["evaluations/0.json", "evaluations/1.json"]
    for place, (size, name) in enumerate(zip(record["sizes"], record["evaluations"], strict=True)):
        evaluation = json.loads((path.parents[1] / name).read_text())
        assert evaluation["config"]["image"]["eval_size"] == size
        assert {entry["protocol"]["input_size"] for entry in evaluation["benchmarks"]} == {size}
        assert {
            key: values[place]
            for key, values in record["metrics"].items()
            if values[place] is not None
        } == evaluation["metrics"]
    assert read_picture(path.with_suffix(".png")).shape[0] == 3
    succeed(f"{line} {TWO_RANKS}", folder=tmp_path)
    first, second = (
        json.loads((path.parent / f"{number}.json").read_text()) for number in range(2)
    )
    assert second["metrics"] == first["metrics"]
    (kept,) = tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/step_2.ckpt")
    shutil.copy(kept, kept.with_stem("step_10"))
    words = "trainer.enable_progress_bar=false evaluation.limit=7 scenes_waterbirds"
    line = f"{EVAL} {EVAL[5:]} {EVAL[5:]}/checkpoints/last.ckpt {words}"
    done = succeed(f"{line} --checkpoints all", folder=tmp_path)
    rows = [row.split(" | ")[0] for row in done.stdout.splitlines() if row[:2] == "| "]
    assert [row.strip("|- ") for row in rows] == [
        *("run", ""),
        *(f"{name}.ckpt" for name in ("best", "last", "step_2", "step_10")),
    ]
    for sizes, message in {
        "33,64": "--sizes 33: an image of 33 x 33 pixels does not divide",
        "64": "name two or more",
        "a,b": "name two or more",
        "32,64 evaluation.protocol=tips-448": (
            "protocol tips-448 fixes the size at 448 px; choose a protocol without its own size"
        ),
    }.items():
        assert message in refused(f"{SWEEP} {sizes}", folder=tmp_path)
