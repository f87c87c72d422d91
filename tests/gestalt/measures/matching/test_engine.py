"""The tokens that clusters of a whole set are fitted to; the slow reference of the clusters is in
``test_parity_others.py``.
"""

import dataclasses

import numpy as np
import pytest
import torch

from gestalt.measures.grouping.engine import kmeans_centres
from gestalt.measures.matching.callback import (
    draw_tokens,
    fit_centres,
    set_tokens,
)
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
IMAGES = [painted(blocky_label(8, 8, block=4, seed=index)) for index in range(4)]


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


class Images(list):
    def sample(self, index):
        return {"image": self[index]}


def centres(model, images):
    """Of every image."""
    return fit_centres(
        model,
        Images(images),
        clusters=len(NAMES),
        protocol=PROTOCOL,
        device=torch.device("cpu"),
    )


def test_the_centres_are_fitted_to_the_tokens_drawn_of_each_image():
    model = PaintedModel()
    drawn = [
        draw_tokens(set_tokens(model, image[None], PROTOCOL)[0].flatten(1).T, index, PROTOCOL)
        for index, image in enumerate(IMAGES)
    ]
    expected = kmeans_centres(torch.cat(drawn).numpy(), len(NAMES), PROTOCOL)
    np.testing.assert_array_equal(centres(model, IMAGES), expected)


def test_nan_tokens_are_refused():
    model = PaintedModel()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        centres(model, IMAGES)
