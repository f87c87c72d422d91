"""Accuracy of classes at places: against loops, its laws, and the same on any number of ranks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.classification.callback import AccuracyScore, GroupAccuracy
from gestalt.measures.classification.groups import group_metrics
from gestalt.support.label_values import PADDING

CLASSES, LENGTH = 3, 23


def adjusted_accuracy(cells, **options):
    return group_metrics(cells, names=(), **options)["adjusted_accuracy"]


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


def test_adjusted_accuracy_ignores_groups_absent_in_training_and_is_nan_for_untested_ones():
    cells = np.array([[0.5, np.nan], [0.25, 1.0]])
    assert adjusted_accuracy(cells, train_groups=[[3, 0], [0, 1]]) == 0.625
    assert np.isnan(adjusted_accuracy(cells, train_groups=[[3, 1], [0, 1]]))


def test_group_scores_ignore_groups_without_images():
    cells = np.array([[[0.5, np.nan], [0.25, 1.0]], [[np.nan, np.nan], [np.nan, np.nan]]])
    metrics = group_metrics(cells, names=(), train_groups=None)
    np.testing.assert_array_equal(metrics["worst_group"], [0.25, np.nan])
    np.testing.assert_array_equal(metrics["mean_group"], [1.75 / 3, np.nan])
