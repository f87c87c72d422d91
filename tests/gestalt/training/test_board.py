"""TensorBoard's tags in their groups, and a run's description."""

from types import SimpleNamespace

import pytest
import torch

from gestalt.training.board import Board, BoardLogger, board_tag
from gestalt.training.progress import Speed

SCORES = ["scenes/miou", "scenes/miou_shuffled_text", "scenes/jaccard", "pascal_voc/miou"]
SCORES += ["flickr/recall_at_1", "flickr/recall_at_10"]
TRAINING = [
    "train/loss",
    "train/accuracy",
    "speed/images_per_second",
    "speed/memory_gib",
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


@pytest.mark.parametrize("validated", [True, False])
def test_the_description_has_ranks_threads_and_the_time_of_a_step(tmp_path, validated):
    sent: list = []
    logger = BoardLogger(tmp_path, name="", version="run")
    logger._experiment = SimpleNamespace(add_text=lambda *arguments: sent.append(arguments))
    trainer = SimpleNamespace(logger=logger, world_size=2, global_step=0, logged_metrics={})
    module, speed = SimpleNamespace(device=torch.device("cpu")), Speed()
    board = Board("what it is", speed=speed)
    board.on_train_start(trainer, module)
    board.on_validation_end(trainer, module)
    speed.seconds_per_step, trainer.global_step = 0.25, 40
    trainer.logged_metrics["train/loss"] = 1.0
    for _ in range(2 * validated):
        board.on_validation_end(trainer, module)
    board.on_train_end(trainer, module)
    begun = f"what it is  \n2 ranks on cpu, CPU threads of a rank: {torch.get_num_threads()}"
    timed = f"{begun}  \na step took 0.250 s, mean of the last 20 at most"
    assert sent == [("run", begun, 0), ("run", timed, 40)]
