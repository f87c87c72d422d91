"""Metrics of groups that some images, or some training images, are missing from."""

import numpy as np

from gestalt.measures.robustness.groups import group_metrics


def adjusted_accuracy(cells, **options):
    return group_metrics(cells, names=(), **options)["adjusted_accuracy"]


def test_adjusted_accuracy_ignores_groups_absent_in_training_and_is_nan_for_untested_ones():
    cells = np.array([[0.5, np.nan], [0.25, 1.0]])
    assert adjusted_accuracy(cells, train_groups=[[3, 0], [0, 1]]) == 0.625
    assert np.isnan(adjusted_accuracy(cells, train_groups=[[3, 1], [0, 1]]))


def test_group_scores_ignore_groups_without_images():
    cells = np.array([[[0.5, np.nan], [0.25, 1.0]], [[np.nan, np.nan], [np.nan, np.nan]]])
    metrics = group_metrics(cells, names=(), train_groups=None)
    np.testing.assert_array_equal(metrics["worst_group"], [0.25, np.nan])
    np.testing.assert_array_equal(metrics["mean_group"], [1.75 / 3, np.nan])
