"""The tokens that clusters of a whole set are fitted to; the slow reference of the clusters is in
``test_parity_others.py``.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from gestalt.measures.matching.engine import draw_tokens, fit_centres
from gestalt.measures.matching.protocol import MatchingProtocol
from tests.gestalt.painted import PaintedModel, blocky_label, painted

PROTOCOL = MatchingProtocol(
    name="test",
    input_size=32,
    resize="short_side",
    multiple=4,
    fit_images=4,
    fit_tokens=9,
    upsample="nearest",
)


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
    sample = {"image": painted(blocky_label(8, 8, block=4, seed=0))}
    images, cpu = SimpleNamespace(sample=lambda index: sample), torch.device("cpu")
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        fit_centres(model, images, chosen=(0,), clusters=2, protocol=PROTOCOL, device=cpu)
