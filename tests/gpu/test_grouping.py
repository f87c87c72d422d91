"""Grouping and matching: groups, clusters and their counts on the device equal the CPU's.  D width, n groups, H W pixels."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.matching.engine import clustered, fitted_centres
from gestalt.measures.matching.metric import MatchedIoU
from gestalt.measures.matching.protocol import PROTOCOLS as MATCHING_PROTOCOLS
from tests.gpu.models import dual_encoder, images

TIED = 5e-4  # largest share of pixels whose two nearest centres are equal but for the last bits
SIZES = ((64, 64), (80, 48), (64, 64))
CPU = torch.device("cpu")


def differing(measured: Tensor, expected: Tensor) -> float:
    """The share of pixels that differ."""
    return float((measured.cpu() != expected).double().mean())


@pytest.mark.parametrize("name", ["pca_square", "kmeans_square", "spectral_square", "attention_square"])
def test_groups_equal_the_cpu(device: torch.device, name: str) -> None:
    changes = {} if name.startswith("attention") else {"groups": 4}
    protocol = dataclasses.replace(GROUPING_PROTOCOLS[name], input_size=64, **changes)
    model = dual_encoder(dtype=torch.float64)
    expected = bottom_up(model, images(*SIZES), protocol=protocol)
    measured = bottom_up(copy.deepcopy(model).to(device), [image.to(device) for image in images(*SIZES)], protocol=protocol)
    for result, reference in zip(measured, expected, strict=True):
        assert result.groups.device.type == device.type
        assert result[1:] == reference[1:]
        assert differing(result.groups, reference.groups) <= TIED


class Set:
    """The images as a set by number."""

    def __len__(self) -> int:
        return len(SIZES)

    def sample(self, index: int) -> dict[str, object]:
        return {"image": images(*SIZES)[index]}


def clusters_on(device: torch.device) -> tuple[Any, list[Tensor]]:
    """Centres fitted on the device, and the cluster maps of all images."""
    protocol = dataclasses.replace(MATCHING_PROTOCOLS["clusters_square"], input_size=64)
    model = dual_encoder(dtype=torch.float64).to(device)
    centres = fitted_centres(model, Set(), chosen=range(len(SIZES)), clusters=5, protocol=protocol, device=device)
    inputs = [image.to(device) for image in images(*SIZES)]
    return centres, [result.groups for result in clustered(model, inputs, centres=centres, protocol=protocol, sizes=SIZES)]


def test_clusters_and_their_match_equal_the_cpu(device: torch.device) -> None:
    centres, expected = clusters_on(CPU)
    measured_centres, measured = clusters_on(device)
    np.testing.assert_allclose(measured_centres, centres, rtol=1e-8, atol=1e-8)
    assert max(differing(result, reference) for result, reference in zip(measured, expected, strict=True)) <= TIED
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(4, size, generator=generator, dtype=torch.uint8) for size in SIZES]
    scores = []
    for place in (CPU, device):  # of the same clusters
        metric = MatchedIoU(5, 4).to(place)
        metric.update([clusters.to(place) for clusters in expected], [label.to(place) for label in labels], torch.arange(3, device=place))
        scores.append(metric.compute())
    assert np.array_equal(scores[1].match, scores[0].match)
    assert np.array_equal(scores[1].counts, scores[0].counts)
