"""The closing printout of a run or an evaluation."""

import pytest

from gestalt.__main__ import main
from gestalt.ledger.outcome import print_metrics


def test_only_the_best_and_worst_five_of_many_classes_are_printed(capsys):
    metrics = {"ade20k/miou": 0.5} | {f"ade20k/iou/{number}": number / 150 for number in range(150)}
    print_metrics(metrics, images={"ade20k": "all 2000 images"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["ade20k: all 2000 images", "ade20k/miou 0.5000"]
    numbers = [int(line.split()[0].rpartition("/")[2]) for line in lines[2:-1]]
    assert numbers == [*range(5), *range(145, 150)]
    assert lines[-1] == "(IoU of 140 further classes: in the record)"


def test_all_of_a_few_classes_are_printed(capsys):
    print_metrics({f"voc/iou/{number}": 0.1 for number in range(21)}, images={})
    assert len(capsys.readouterr().out.splitlines()) == 21


def test_a_command_without_overrides_names_the_word_that_it_does_not_take(capsys):
    with pytest.raises(SystemExit):
        main(["segment", "photo.jpg", "--labels", "dog, cat", "--ckpt", "run", "image.eval_size=256"])
    assert "segment takes no key=value and no further word: leave out image.eval_size=256" in capsys.readouterr().err
