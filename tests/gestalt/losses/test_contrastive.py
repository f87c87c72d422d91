"""The contrastive loss on one process.  B pairs, E width."""

import math

import numpy as np
import pytest
import torch

from gestalt.losses.captions import text_ids
from tests.gestalt.losses.test_blocks import CAPTIONS, EQUAL, SCALE, inputs, terms


def by_loops(image: np.ndarray, text: np.ndarray, *, directions: str, equal_texts: str) -> float:
    """The definition, pair by pair."""
    logits = math.exp(SCALE) * image @ text.T
    total = 0.0
    for scores in (logits, logits.T):
        for row in range(len(CAPTIONS)):
            right = (
                [c for c in range(len(CAPTIONS)) if CAPTIONS[c] == CAPTIONS[row]]
                if equal_texts == "positives"
                else [row]
            )
            normaliser = math.log(sum(math.exp(score) for score in scores[row]))
            total += sum(normaliser - scores[row][c] for c in right) / len(right) / len(CAPTIONS)
    return total if directions == "sum" else total / 2


@pytest.mark.parametrize("directions", ["sum", "mean"])
@pytest.mark.parametrize("equal_texts", EQUAL)
def test_equals_the_definition_pair_by_pair(directions, equal_texts):
    choices = {"directions": directions, "equal_texts": equal_texts}
    image, text, scale, _ = inputs()
    expected = by_loops(image.detach().numpy(), text.detach().numpy(), **choices)
    found = terms("contrastive", image, text, scale, **choices).loss.item()
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("equal_texts", EQUAL)
@pytest.mark.parametrize("rows", [[0, 1, 3], [2], [4, 0]])
def test_invalid_rows_do_not_affect_loss_or_gradients(rows, equal_texts):
    valid = torch.zeros(len(CAPTIONS), dtype=torch.bool)
    valid[rows] = True
    found = []
    for keep, mask in ((slice(None), valid), (valid, None)):
        image, text, scale, _ = inputs()
        choices = {"text_id": text_ids(CAPTIONS)[keep], "equal_texts": equal_texts, "valid": mask}
        mine = terms("contrastive", image[keep], text[keep], scale, **choices)
        torch.autograd.backward(mine.loss)
        found.append([*mine, image.grad, text.grad, scale.grad])
    for masked, without in zip(*found, strict=True):
        torch.testing.assert_close(masked, without, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("equal_texts", EQUAL)
def test_the_terms_of_a_batch_without_a_valid_row_are_nan(equal_texts):
    valid = torch.zeros(len(CAPTIONS), dtype=torch.bool)
    of_none = terms("contrastive", *inputs()[:3], valid=valid, equal_texts=equal_texts)
    assert [bool(term.isnan()) for term in of_none] == [True, True, True]


def test_duplicates_are_the_share_of_captions_that_occur_again():
    assert terms("contrastive", *inputs()[:3]).duplicates.item() == pytest.approx(5 / 7)


def test_retrieving_an_identical_caption_counts_as_correct():
    eye, scale = torch.eye(7, dtype=torch.float64), inputs()[2]
    # images 0, 1 and 2 find texts of the same words, 5 and 6 their own; 3 and 4 miss
    order = [2, 6, 4, 0, 3, 5, 6]
    assert terms("contrastive", eye[order], eye, scale).accuracy.item() == pytest.approx(5 / 7)


def test_similarities_are_float32_under_autocast():
    image, text, scale, _ = (tensor.float() for tensor in inputs())
    expected = terms("contrastive", image, text, scale).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = terms("contrastive", image, text, scale).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_refuses_rows_that_do_not_match():
    image, text, scale, _ = inputs()
    with pytest.raises(ValueError, match=r"image \(7, 4\), text \(4, 4\), text_id \(7,\)"):
        terms("contrastive", image, text[:4], scale)
