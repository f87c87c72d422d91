"""Metrics whose images are shared by two ranks, merged in one process: the same score as on one
rank.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from gestalt.measures.classification.callback import GroupAccuracy
from gestalt.measures.grouping.callback import JaccardSimilarity
from gestalt.measures.matching.callback import MatchedIoU
from gestalt.measures.retrieval.callback import RetrievalRecall
from gestalt.measures.segmentation.mean_iou import MeanIoU
from gestalt.support.label_values import PADDING
from tests.gestalt.measures.classification import test_callback as classification
from tests.gestalt.measures.grouping import test_callback as grouping
from tests.gestalt.measures.retrieval.test_callback import CAPTIONS, embedded
from tests.gestalt.measures.segmentation.test_mean_iou import CLASSES, pair
from tests.gestalt.measures.stage import count

IMAGES = 7
Update = Callable[[Any, int, int], None]


def update_retrieval(metric: Any, index: int, sample_id: int) -> None:
    image, text = embedded(index)
    metric.update(image, text, sample_id=torch.tensor([sample_id]), captions=[CAPTIONS[index]])


def update_accuracy(metric: Any, index: int, sample_id: int) -> None:
    classification.update(metric, torch.tensor([index if sample_id != PADDING else -1]))


METRICS: dict[str, tuple[Callable[[], Metric], Update]] = {
    "segmentation": (
        lambda: MeanIoU(CLASSES),
        lambda metric, index, sample_id: count(metric, *pair(index), sample_id),
    ),
    "grouping": (
        JaccardSimilarity,
        lambda metric, index, sample_id: count(metric, *grouping.pair(index), sample_id),
    ),
    "matching": (
        lambda: MatchedIoU(CLASSES),
        lambda metric, index, sample_id: count(metric, *pair(index), sample_id),
    ),
    "classification": (
        lambda: GroupAccuracy(classification.CLASSES, places=classification.CLASSES),
        update_accuracy,
    ),
    "retrieval": (RetrievalRecall, update_retrieval),
}


def counted(name: str, indices: Sequence[int]) -> Metric:
    """A rank's metric after some images; a number beyond the set is padding."""
    make, update = METRICS[name]
    metric = make()
    for index in indices:
        update(metric, min(index, IMAGES - 1), index if index < IMAGES else PADDING)
    return metric


def collectives(metric: Metric) -> list[Tensor]:
    """The tensors that a rank sends, in order."""
    sent: list[Tensor] = []

    def send(tensor: Tensor, group: Any = None) -> list[Tensor]:
        sent.append(tensor)
        return [tensor]

    metric.sync(dist_sync_fn=send, distributed_available=lambda: True)
    if metric._is_synced:
        metric.unsync()
    return sent


def computed(*ranks: Metric) -> Any:
    """The score on the first rank, whose collectives are answered with the tensors of all ranks."""
    answers = zip(*map(collectives, ranks), strict=True)
    first = ranks[0]
    first.dist_sync_fn = lambda tensor, group=None: list(next(answers))
    first.distributed_available_fn = lambda: True
    return first.compute()


def plain(score: Any) -> dict[str, Any]:
    """A score by field, arrays as lists."""
    fields = score._asdict() if hasattr(score, "_asdict") else {**vars(score), "miou": score.miou}
    fields = {key: value for key, value in fields.items() if key != "iou"}
    nested = {f"image_hits/{key}": array for key, array in fields.pop("image_hits", {}).items()}
    return {
        key: np.asarray(value).tolist() if isinstance(value, np.ndarray) else value
        for key, value in {**fields, **nested}.items()
    }


@pytest.mark.parametrize("name", METRICS)
def test_merging_two_ranks_gives_the_score_of_one(name):
    merged = computed(counted(name, [0, 1, 4, 5]), counted(name, [2, 3, 6, 7]))
    np.testing.assert_equal(plain(merged), plain(counted(name, range(IMAGES)).compute()))


@pytest.mark.parametrize("name", METRICS)
def test_padding_is_dropped_and_an_image_seen_twice_counts_once(name):
    more = counted(name, [2, IMAGES, 0, 1, 0, IMAGES])
    np.testing.assert_equal(plain(more.compute()), plain(counted(name, range(3)).compute()))
