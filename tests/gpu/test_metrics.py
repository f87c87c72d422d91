"""Metrics: from equal predictions the device counts the same integers as the CPU, and every derived number is equal to the last bit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.evaluation.confusion import IGNORE
from gestalt.measures.matching.metric import MatchedIoU
from gestalt.measures.retrieval.metric import RetrievalRecall
from gestalt.measures.segmentation.metric import MeanIoU

CLASSES, CLUSTERS = 7, 9
SIZES = ((61, 83), (40, 40), (96, 33))


def maps(count: int, *, seed: int, void: bool = False) -> list[Tensor]:
    """Maps of random blocks with values below ``count``, some pixels void if asked."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in SIZES:
        coarse = torch.randint(count, (-(-height // 5), -(-width // 5)), generator=generator, dtype=torch.uint8)
        fine = coarse.repeat_interleave(5, 0).repeat_interleave(5, 1)[:height, :width].contiguous()
        if void:
            fine[torch.rand(height, width, generator=generator) < 0.1] = IGNORE
        made.append(fine)
    return made


def on(device: torch.device, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the device."""
    return [tensor.to(device) for tensor in tensors]


IDS = torch.tensor([4, 11, 2])


def mean_iou(device: torch.device) -> Any:
    metric = MeanIoU(CLASSES).to(device)
    metric.update(on(device, maps(CLASSES, seed=1)), on(device, maps(CLASSES, seed=2, void=True)), IDS.to(device))
    return metric.compute()


def matched_iou(device: torch.device) -> Any:
    metric = MatchedIoU(CLUSTERS, CLASSES).to(device)
    metric.update(on(device, maps(CLUSTERS, seed=5)), on(device, maps(CLASSES, seed=6, void=True)), IDS.to(device))
    return metric.compute()


def retrieval_recall(device: torch.device) -> Any:
    """Vectors of small integers: their products are exact on any device, and there are many ties."""
    generator = torch.Generator().manual_seed(8)
    image, text = (torch.randint(-2, 3, (count, 8), generator=generator).float().to(device) for count in (20, 40))
    captions = [[f"caption {2 * number}", f"caption {(2 * number + 1) % 30}"] for number in range(20)]
    metric = RetrievalRecall().to(device)
    metric.update(image, text, sample_id=torch.arange(20, device=device), captions=captions)
    return metric.compute()


@pytest.mark.parametrize("score", [mean_iou, matched_iou, retrieval_recall])
def test_every_number_of_a_metric_equals_the_cpu(device: torch.device, score: Callable[[torch.device], Any]) -> None:
    expected, measured = score(torch.device("cpu")), score(device)
    for name in expected._fields:
        np.testing.assert_equal(getattr(measured, name), getattr(expected, name), err_msg=name)
