"""Metrics of the accuracies of each class at each place.  C classes, P places."""

from collections.abc import Sequence

import numpy as np

from gestalt.evaluation.confusion import mean_without_nan
from gestalt.support.arrays import Floats


def adjusted_accuracy(cells: Floats, *, train_groups: Sequence[Sequence[int]]) -> Floats:
    """Return the mean of the accuracies (..., C, P), each weighted by its group's share of the
    training images; nan where one of them is.

    Args:
        cells: nan without images.
        train_groups: (C, P), number of training images of each group; not all 0.

    Source: the average test accuracy of Sagawa et al. 2020 (arXiv:1911.08731), appendix C.1, as
    kohpangwei/group_DRO README.md @ 2789944 has it.
    """
    weights = np.asarray(train_groups, dtype=np.float64)
    counted = weights > 0
    mean: Floats = (cells[..., counted] * weights[counted]).sum(axis=-1) / weights.sum()
    return mean


def group_metrics(
    cells: Floats,
    *,
    names: Sequence[str],
    train_groups: Sequence[Sequence[int]] | None,
) -> dict[str, Floats]:
    """Return the metrics of the accuracies (..., C, C) of each class at each place, (...), by name;
    class and place of one index go together by habit.

    A class's delta is its loss of accuracy off its usual place: the cell of that place minus the
    mean of its other cells; nan where one of them is.

    Args:
        cells: nan without images.
        names: of the classes.
        train_groups: as ``adjusted_accuracy``; None without that metric.
    """
    metrics = {}
    if train_groups is not None:
        metrics["adjusted_accuracy"] = adjusted_accuracy(cells, train_groups=train_groups)
    lowest = np.where(np.isnan(cells), np.inf, cells).min(axis=(-2, -1))
    metrics["worst_group"] = np.where(np.isinf(lowest), np.nan, lowest)
    metrics["mean_group"] = mean_without_nan(cells, axis=(-2, -1))
    for index, name in enumerate(names):
        usual = cells[..., index, index]
        delta = usual - np.delete(cells[..., index, :], index, axis=-1).mean(axis=-1)
        metrics[f"accuracy/{name}_usual_place"] = usual
        metrics[f"delta/{name}"] = delta
        metrics[f"accuracy/{name}_other_place"] = usual - delta
    return metrics
