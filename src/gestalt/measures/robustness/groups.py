"""Metrics of the accuracies of each class at each place.  C classes, P places."""

from collections.abc import Sequence

import numpy as np

from gestalt.measures.evaluation.confusion import mean_without_nan
from gestalt.support.arrays import Floats


def group_metrics(
    cells: Floats,
    *,
    names: Sequence[str],
    train_groups: Sequence[Sequence[int]] | None,
) -> dict[str, Floats]:
    """Return the metrics of the accuracies (..., C, C) of each class at each place, (...), by name;
    class i is usual at place i.

    The adjusted accuracy is the mean of the accuracies, each weighted by its group's share of the
    training images; nan where one of them is.

    A class's delta is its loss of accuracy off its usual place: the cell of that place minus the
    mean of its other cells; nan where one of them is.

    Args:
        cells: nan without images.
        names: of the classes.
        train_groups: (C, C), number of training images of each group, not all 0; None without the
            adjusted accuracy.

    Source of the adjusted accuracy: the average test accuracy of Sagawa et al. 2020
    (arXiv:1911.08731), appendix C.1, as kohpangwei/group_DRO README.md @ 2789944 has it.
    """
    metrics: dict[str, Floats] = {}
    if train_groups is not None:
        weights = np.asarray(train_groups, dtype=np.float64)
        counted = weights > 0
        total = (cells[..., counted] * weights[counted]).sum(axis=-1)
        metrics["adjusted_accuracy"] = total / weights.sum()
    metrics["worst_group"] = np.fmin.reduce(cells, axis=(-2, -1))
    metrics["mean_group"] = mean_without_nan(cells, axis=(-2, -1))
    for index, name in enumerate(names):
        usual = cells[..., index, index]
        delta = usual - np.delete(cells[..., index, :], index, axis=-1).mean(axis=-1)
        metrics[f"accuracy/{name}_usual_place"] = usual
        metrics[f"delta/{name}"] = delta
        metrics[f"accuracy/{name}_other_place"] = usual - delta
    return metrics
