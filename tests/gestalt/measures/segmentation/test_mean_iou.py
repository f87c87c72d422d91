"""Counts of pixels against a loop."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.segmentation.mean_iou import BAND_EDGES, MeanIoU, border_bands
from gestalt.support.label_values import IGNORE, ignored_value, map_type
from tests.gestalt.measures.stage import count

CLASSES = 5


def pair(index: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Prediction and label of one image; its size, its difficulty and its classes depend on the
    index.
    """
    draw = np.random.default_rng([7, index])
    size = (int(draw.integers(3, 9)), int(draw.integers(3, 30)))
    kind = map_type(classes)
    label = draw.integers(0, classes - 1, size).astype(kind)  # the last class is in no label
    prediction = np.where(
        draw.random(size) < index / 7, label, draw.integers(0, classes, size)
    ).astype(kind)
    label[draw.random(size) < 0.2] = ignored_value(classes)
    return torch.from_numpy(prediction), torch.from_numpy(label)


def loop_iou(pairs, *, classes, ignored):
    """IoU of each class over the set, pixel by pixel."""
    inside, either = [0] * classes, [0] * classes
    for prediction, label in pairs:
        for guess, truth in zip(
            prediction.flatten().tolist(), label.flatten().tolist(), strict=True
        ):
            for value in {guess, truth} if truth != ignored else ():
                if value < classes:
                    inside[value] += guess == truth
                    either[value] += 1
    return [one / all_ if all_ else math.nan for one, all_ in zip(inside, either, strict=True)]


@pytest.mark.parametrize(("classes", "unnamed"), [(CLASSES, False), (CLASSES, True), (300, False)])
def test_iou_equals_a_loop_over_pixels(classes, unnamed):
    metric, ignored = MeanIoU(classes + 1, unnamed=unnamed), ignored_value(classes)
    pairs = [pair(index, classes) for index in range(7)]
    for prediction, _ in pairs if unnamed else ():
        prediction[::2, ::3] = ignored
    predictions, labels = zip(*pairs, strict=True)
    metric.update(predictions, labels, torch.arange(7))
    score, iou = metric.compute(), np.array(loop_iou(pairs, classes=classes + 1, ignored=ignored))
    assert np.isnan(iou).any()  # classes that are neither in a label nor predicted
    assert (iou == 0).any()  # those that are predicted and in no label
    np.testing.assert_array_equal(score.iou, iou)
    assert score.miou == pytest.approx(np.nanmean(iou), abs=1e-15)
    np.testing.assert_array_equal(score.image_counts.sum(axis=0), score.counts)
    predicted, truth = (
        torch.cat([one.flatten() for one in maps]) for maps in (predictions, labels)
    )
    counted = truth != ignored
    right, none = (int((predicted == value)[counted].sum()) for value in (truth, ignored))
    assert score.pixel_accuracy == right / int(counted.sum())
    assert score.ignored_pixels == int((~counted).sum()) > 0
    assert score.confusion[:, classes + 1 :].sum() == none
    assert (none > 0) == unnamed


@pytest.mark.parametrize("table", [[1, 2, 3, 4, 0, 2], [3] * 6])
def test_predicted_classes_can_be_replaced_after_they_were_counted(table):
    scores = []
    for replaced in (False, True):
        metric = MeanIoU(CLASSES, unnamed=True)
        for index in range(7):
            prediction, label = pair(index)
            prediction[::2, ::3] = IGNORE
            if replaced:
                prediction = torch.tensor(table)[prediction.long().clamp(max=CLASSES)]
            count(metric, prediction, label, index)
        scores.append(metric.compute())
    found, expected = scores[0].predicted_as(np.array(table)), scores[1]
    np.testing.assert_array_equal(found.image_counts, expected.image_counts)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.confusion, expected.confusion)


def test_an_image_scored_by_two_ranks_raises():
    metric = MeanIoU(CLASSES)
    prediction, label = pair(3)
    for predicted in (label, prediction):
        count(metric, predicted, label, 3)
    with pytest.raises(RuntimeError, match="scored by two ranks"):
        metric.compute()


def test_counts_beyond_float32_stay_exact():
    metric = MeanIoU(2)
    for index, size in enumerate([(2**12, 2**12), (1, 1)]):
        count(metric, *torch.zeros(2, *size, dtype=torch.uint8), index)
    assert metric.compute().counts[0, 0] == 2**24 + 1


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(3, 2),
            r"sample 9: the prediction is \(2, 3\), its label \(3, 2\)",
        ),
        (torch.zeros(1, 1), torch.full((1, 1), 3), "sample 9: the label holds 3, expected 0 to 2"),
        (torch.full((1, 1), 4), torch.zeros(1, 1), "sample 9: the prediction holds 4, expected"),
    ],
)
def test_what_cannot_be_counted_names_the_sample(prediction, label, message):
    with pytest.raises(ValueError, match=message):
        count(MeanIoU(3), prediction, label, 9)


def slow_bands(label, classes):
    """The bands, pixel by pixel: those that reach no second class are passed."""
    return [
        [
            sum(
                len({*part[part < classes].tolist()}) < 2
                for edge in BAND_EDGES
                for part in [
                    label[
                        max(0, row - edge) : row + edge + 1,
                        max(0, column - edge) : column + edge + 1,
                    ]
                ]
            )
            for column in range(label.shape[1])
        ]
        for row in range(label.shape[0])
    ]


@pytest.mark.parametrize("size", [(1, 3), (5, 40), (24, 32)])
def test_a_band_is_the_distance_to_the_nearest_pixel_of_another_class(size):
    label = torch.ones(size, dtype=torch.int32)
    label[:, size[1] // 2 :] = 0
    label[-1, -2:] = 2  # classes 0 and 2 have a mean of 1
    label[:, size[1] // 2 - 2 : size[1] // 2] = 3  # ignored
    bands = border_bands(label, 3)
    assert bands.tolist() == slow_bands(label, 3)
    assert (4 in bands) == (size[1] > 3)
