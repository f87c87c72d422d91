"""Clusters of a whole set: the tokens they are fitted to, and the cluster of every pixel."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.grouping.clusters import kmeans_centres
from gestalt.measures.matching.engine import cluster, draw_tokens, fit_centres, set_tokens
from gestalt.measures.matching.metric import MatchedIoU
from gestalt.measures.matching.protocol import MatchingProtocol
from tests.gestalt.painted import NAMES, PaintedModel, blocky_label, painted

PROTOCOL = MatchingProtocol(
    name="test",
    input_size=32,
    resize="short_side",
    multiple=4,
    fit_images=4,
    fit_tokens=9,
    upsample="nearest",
)
CPU = torch.device("cpu")


class PaintedSet:
    """Images of labels of two sizes."""

    def __len__(self) -> int:
        return 6

    def label(self, index: int) -> Tensor:
        """(32, 32) or (32, 48)."""
        return blocky_label(8, 8 + 4 * (index % 2), block=4, seed=index)

    def sample(self, index: int) -> dict[str, Any]:
        """Return a sample in the format of image sets."""
        return {"image": painted(self.label(index)), "name": str(index)}


def centres(**changes: Any) -> np.ndarray[Any, Any]:
    """Of four images."""
    protocol = dataclasses.replace(PROTOCOL, **changes)
    return fit_centres(
        PaintedModel(),
        PaintedSet(),
        chosen=(0, 2, 3, 5),
        clusters=len(NAMES),
        protocol=protocol,
        device=CPU,
    )


def test_class_features_are_matched_perfectly():
    images = PaintedSet()
    labels = [images.label(index) for index in range(6)]
    sizes = [(label.shape[0], label.shape[1]) for label in labels]
    found = cluster(
        PaintedModel(),
        [painted(label) for label in labels],
        centres=centres(),
        protocol=PROTOCOL,
        sizes=sizes,
    )
    metric = MatchedIoU(len(NAMES), len(NAMES))
    metric.update([one.groups for one in found], labels, torch.arange(6))
    assert metric.compute().miou == 1
    assert {one.grid for one in found} == {(8, 8), (8, 12)}


def test_the_centres_are_fitted_on_the_tokens_drawn_by_the_protocol():
    rows = []
    for index in (0, 2, 3, 5):
        tokens = (
            set_tokens(
                PaintedModel(), PaintedSet().sample(index)["image"][None], protocol=PROTOCOL
            )[0]
            .flatten(1)
            .T
        )
        order = np.random.default_rng([0, index]).permutation(len(tokens))[:9]
        rows += [tokens[position].numpy() for position in sorted(order)]
    np.testing.assert_array_equal(centres(), kmeans_centres(np.array(rows), 4, PROTOCOL))


def test_the_draw_is_a_pure_function_of_seed_and_image():
    tokens = torch.arange(60.0).reshape(30, 2)
    one, same, seed, image = (
        draw_tokens(tokens, index, protocol=dataclasses.replace(PROTOCOL, seed=seed))
        for index, seed in ((1, 0), (1, 0), (1, 4), (2, 0))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, seed)
    assert not torch.equal(one, image)
    assert len(draw_tokens(tokens[:5], 1, protocol=PROTOCOL)) == 5


def test_nan_tokens_are_refused():
    model = PaintedModel()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        fit_centres(model, PaintedSet(), chosen=(0,), clusters=2, protocol=PROTOCOL, device=CPU)
