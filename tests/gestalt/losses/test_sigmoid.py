"""SigLIP's sigmoid loss, on one process."""

import math

import numpy as np
import pytest
import torch
from open_clip.loss import SigLipLoss

from tests.gestalt.losses.test_blocks import BIAS, CAPTIONS, EQUAL, SCALE, inputs, terms


def by_loops(image: np.ndarray, text: np.ndarray, *, equal_texts: str) -> float:
    """SigLIP's definition, pair by pair."""
    total = 0.0
    for row, query in enumerate(image):
        for column, answer in enumerate(text):
            pair = (
                CAPTIONS[row] == CAPTIONS[column] if equal_texts == "positives" else row == column
            )
            total += math.log1p(
                math.exp((-1 if pair else 1) * (math.exp(SCALE) * query @ answer + BIAS))
            )
    return total / len(image)


@pytest.mark.parametrize("equal_texts", EQUAL)
def test_the_sigmoid_loss_equals_the_definition_pair_by_pair(equal_texts):
    image, text = (tensor.detach().numpy() for tensor in inputs()[:2])
    found = terms("sigmoid", *inputs(), equal_texts=equal_texts).loss.item()
    assert found == pytest.approx(by_loops(image, text, equal_texts=equal_texts), rel=1e-12)


def test_the_sigmoid_loss_has_the_gradients_of_open_clip():
    ours, theirs = inputs(), inputs()
    terms("sigmoid", *ours).loss.backward()
    torch.autograd.backward(SigLipLoss()(theirs[0], theirs[1], theirs[2].exp(), theirs[3]))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-14)
