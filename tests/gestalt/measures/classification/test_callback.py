"""Ranks of classes, and the accuracy of classes at places, against loops."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.classification.callback import AccuracyScore, GroupAccuracy, by_class, ranks
from gestalt.measures.classification.protocol import PROTOCOLS
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.support.label_values import PADDING
from tests.gestalt.painted import PaintedModel, Words

CLASSES, LENGTH = 3, 23


def drawn(seed: int = 0) -> dict[str, Tensor]:
    """A set of images with truth, place, prediction and rank."""
    draw = torch.Generator().manual_seed(seed)
    truth, place, prediction = (torch.randint(CLASSES, (LENGTH,), generator=draw) for _ in range(3))
    rank = torch.where(prediction == truth, 0, torch.randint(1, CLASSES, (LENGTH,), generator=draw))
    return {
        "truth": truth,
        "place": place,
        "prediction": prediction,
        "rank": rank,
        "sample_id": torch.arange(LENGTH),
    }


def update(metric: GroupAccuracy, rows: Tensor, *, seed: int = 0) -> None:
    """Count some images of the set; a negative number is padding."""
    columns = {key: values[rows.clamp_min(0)] for key, values in drawn(seed).items()}
    columns["sample_id"] = torch.where(rows < 0, PADDING, columns["sample_id"])
    metric.update(columns.pop("truth"), **columns)


def scored(rows: Tensor | None = None) -> AccuracyScore:
    """The whole set, or some of it, on one rank."""
    metric = GroupAccuracy(CLASSES, places=CLASSES)
    update(metric, torch.arange(LENGTH) if rows is None else rows)
    return metric.compute()  # type: ignore[no-any-return]


def test_every_score_equals_a_loop_over_images():
    found, images = scored(), drawn()
    right = np.zeros((CLASSES, CLASSES), dtype=int)
    total = np.zeros((CLASSES, CLASSES), dtype=int)
    for truth, place, prediction in zip(
        *(images[key].tolist() for key in ("truth", "place", "prediction")), strict=True
    ):
        total[truth, place] += 1
        right[truth, place] += truth == prediction
    np.testing.assert_array_equal(found.right, right)
    np.testing.assert_array_equal(found.total, total)
    assert found.top(1) == right.sum() / LENGTH
    assert found.top(2) == sum(rank < 2 for rank in images["rank"].tolist()) / LENGTH
    assert found.top(CLASSES) == 1
    assert found.majority == total.sum(axis=1).max() / LENGTH
    np.testing.assert_allclose(found.cells, right / total)


def test_empty_cells_and_empty_sets_score_nan():
    empty = scored(torch.tensor([-1]))
    assert empty.images == 0
    assert np.isnan([empty.top(1), empty.majority, *empty.cells.flatten()]).all()
    assert np.isnan(scored(torch.tensor([0])).cells).sum() == CLASSES**2 - 1


def test_predicting_the_third_class_is_wrong_and_not_counted_as_a_class():
    metric = GroupAccuracy(2)
    truth = torch.tensor([0, 1, 1])
    metric.update(
        truth,
        prediction=torch.tensor([2, 1, 2]),
        rank=torch.tensor([1, 0, 1]),
        sample_id=torch.arange(3),
        place=torch.zeros_like(truth),
    )
    assert metric.compute().top(1) == 1 / 3
    assert metric.compute().right.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("truth", "place", "message"),
    [
        (2, 0, "sample 7: class 2 does not exist, there are 0 to 1"),
        (0, 3, "place 3"),
        (-1, 0, "class -1"),
    ],
)
def test_a_wrong_label_map_is_caught_with_the_sample(truth, place, message):
    with pytest.raises(ValueError, match=message):
        GroupAccuracy(2, places=3).update(
            torch.tensor([truth]),
            prediction=torch.tensor([0]),
            rank=torch.tensor([0]),
            sample_id=torch.tensor([7]),
            place=torch.tensor([place]),
        )


def slow_rank(logits: list[float], truth: int) -> int:
    """Classes that come before the true one, one at a time."""
    return sum(
        value > logits[truth] or (value == logits[truth] and index < truth)
        for index, value in enumerate(logits)
        if index != truth
    )


def test_ranks_equal_a_slow_loop_and_ties_go_to_the_first_class():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randint(5, (40, 7), generator=draw).float()
    truth = torch.randint(7, (40,), generator=draw)
    found = ranks(logits, truth)
    assert found.tolist() == [
        slow_rank(row, int(one)) for row, one in zip(logits.tolist(), truth, strict=True)
    ]
    assert torch.equal(found == 0, logits.argmax(dim=1) == truth)


def test_a_phrase_shared_by_two_classes_ties_and_so_counts_for_the_first_class():
    words = Words(
        ("torpedo", "missile", "rocket"), prompts=(("torpedo",), ("missile",), ("missile",))
    )
    prompts = class_embeddings(PaintedModel(words), words, protocol=PROTOCOLS["one_prompt"])
    rounded = torch.tensor([[0.1, 0.3, 0.3000001]])  # products round otherwise at another place
    assert by_class(rounded, prompts=prompts).argmax(dim=1).tolist() == [1]
