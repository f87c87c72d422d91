"""TensorBoard's tags in their groups, the custom scalars page, a run's description and its
hyperparameters.
"""

from types import SimpleNamespace

import torch

from gestalt.measures.evaluation.measures import charts_of
from gestalt.training.board import Board, BoardLogger
from gestalt.training.progress import Speed
from gestalt.training.tags import board_tag

BENCHMARKS = {
    "scenes": ("segmentation", "grouping"),
    "pascal_voc": ("segmentation",),
    "flickr": ("retrieval",),
}
SCORES = [f"scenes/{name}" for name in ("miou", "miou_shuffled_text", "miou_patch_oracle")]
SCORES += [f"scenes/{name}" for name in ("jaccard", "jaccard_blocks", "jaccard_patch_oracle")]
SCORES += [f"pascal_voc/{name}" for name in ("miou", "miou_shuffled_text", "miou_patch_oracle")]
SCORES += ["flickr/recall_at_1", "flickr/recall_at_10"]
TRAINING = [
    f"train/{name}"
    for name in (
        "loss",
        "accuracy",
        "learning_rate",
        "gradient_norm",
        "logit_scale",
        "bad_samples",
        "loss_nouns",
    )
]
TRAINING += [
    "speed/images_per_second",
    "speed/memory_gib",
    "tokens/kept",
    "bad_samples/too_small",
    "epoch",
]
CLASSES = ["scenes/iou/cat", "pascal_voc/iou/train"]


def test_the_overview_comes_first_and_the_classes_come_last():
    # TensorBoard's order too, where the first letter is a digit
    tags = sorted(board_tag(key) for key in (*SCORES, *TRAINING, *CLASSES))
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in tags))
    assert groups == ["1 overview", "2 scores", "3 training", "5 classes"]
    assert [tag.partition("/")[2] for tag in tags if tag.startswith("1")] == [
        "flickr/recall_at_10",
        "pascal_voc/miou",
        "scenes/miou",
        "speed/images_per_second",
        "train/loss",
    ]
    assert [tag.partition("/")[2] for tag in tags if tag.startswith("5")] == sorted(CLASSES)


def boarded(tmp_path, *, logged=(*SCORES, *TRAINING)) -> list:
    """Return the texts and layouts that are sent to TensorBoard by a run that logs these keys."""
    sent: list = []
    logger = BoardLogger(tmp_path, name="", version="run")
    logger._experiment = SimpleNamespace(
        add_text=lambda *arguments: sent.append(arguments),
        add_custom_scalars=lambda layout: sent.append(layout),
    )
    trainer = SimpleNamespace(
        logger=logger, is_global_zero=True, world_size=2, global_step=0, logged_metrics={}
    )
    module, speed = SimpleNamespace(device=torch.device("cpu")), Speed()
    board = Board(charts_of(BENCHMARKS), text="what it is", speed=speed)
    board.on_train_start(trainer, module)
    speed.seconds_per_step, trainer.global_step = 0.25, 40
    for keys in (logged, ()):
        trainer.logged_metrics |= dict.fromkeys(keys, 1.0)
        board.on_validation_end(trainer, module)
    board.on_train_end(trainer, module)
    return sent


def test_the_description_has_ranks_threads_and_the_time_of_a_step(tmp_path):
    machine = f"2 ranks on cpu, CPU threads of a rank: {torch.get_num_threads()}"
    first, second, _ = boarded(tmp_path)
    assert first == ("run", f"what it is  \n{machine}", 0)
    assert second == (
        "run",
        f"what it is  \n{machine}  \na step took 0.250 s, mean of the last 20 at most",
        40,
    )


def test_the_page_groups_charts_into_where_what_and_speed(tmp_path):
    *_, layout = boarded(tmp_path)
    assert list(layout) == ["where", "what", "speed and optimisation"]
    assert layout["where"]["pascal_voc: mIoU"] == ["Multiline", [r"1\ overview/pascal_voc/miou$"]]
    assert layout["what"]["loss"] == ["Multiline", [r"1\ overview/train/loss$"]]
    assert layout["what"]["flickr: recall at 10"] == [
        "Multiline",
        [r"1\ overview/flickr/recall_at_10$"],
    ]
    assert {"images per second", "memory, GiB", "learning rate", "bad samples so far"} < set(
        layout["speed and optimisation"]
    )


def test_a_metric_that_the_run_lacks_has_no_chart(tmp_path):
    logged = {*SCORES, *TRAINING} - {
        "train/accuracy",
        "scenes/miou_patch_oracle",
        "flickr/recall_at_1",
        "flickr/recall_at_10",
    }
    full, less = boarded(tmp_path)[-1], boarded(tmp_path, logged=logged)[-1]
    lacking = {title for page in full for title in full[page] if title not in less[page]}
    assert lacking == {
        "accuracy in the batch",
        "scenes: mIoU, from shuffled text to patch oracle",
        "flickr: recall at 1",
        "flickr: recall at 10",
    }
    assert "where" not in boarded(tmp_path, logged=TRAINING)[-1]
