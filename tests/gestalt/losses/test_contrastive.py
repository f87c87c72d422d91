"""The contrastive loss on one process.  B pairs, E width."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.losses.captions import text_ids
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.matrix import ContrastiveTerms

CAPTIONS = ["a dog", "a cat", "a dog", "two apples on grass", "a dog"]
SCALE = math.log(1 / 0.07)


def pairs(seed: int = 0, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, text = torch.randn(2, len(CAPTIONS), 4, generator=generator, dtype=dtype)
    return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)


def terms(image: Tensor, text: Tensor, **choices: Any) -> ContrastiveTerms:
    choices = {"directions": "sum", "equal_texts": "negatives", **choices}
    logit_scale = torch.tensor(SCALE, dtype=image.dtype)
    return contrastive_loss(
        image, text, logit_scale=logit_scale, text_id=text_ids(CAPTIONS), **choices
    )


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
@pytest.mark.parametrize("equal_texts", ["negatives", "positives"])
def test_equals_the_definition_pair_by_pair(directions, equal_texts):
    image, text = pairs()
    expected = by_loops(image.numpy(), text.numpy(), directions=directions, equal_texts=equal_texts)
    assert terms(
        image, text, directions=directions, equal_texts=equal_texts
    ).loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("equal_texts", ["negatives", "positives"])
@pytest.mark.parametrize("rows", [[0, 1, 3], [2], [4, 0]])
def test_invalid_rows_do_not_affect_loss_or_gradients(rows, equal_texts):
    valid = torch.zeros(len(CAPTIONS), dtype=torch.bool)
    valid[rows] = True
    (image, text), scale, ids = (
        pairs(),
        torch.tensor(SCALE, dtype=torch.float64),
        text_ids(CAPTIONS),
    )
    found = []
    for keep, mask in ((slice(None), valid), (valid, None)):
        inputs = [part.clone().requires_grad_() for part in (image, text, scale)]
        mine = contrastive_loss(
            inputs[0][keep],
            inputs[1][keep],
            logit_scale=inputs[2],
            text_id=ids[keep],
            directions="sum",
            equal_texts=equal_texts,
            valid=mask,
        )
        torch.autograd.backward(mine.loss)
        found.append([*mine, *(part.grad for part in inputs)])
    for masked, without in zip(*found, strict=True):
        torch.testing.assert_close(masked, without, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("equal_texts", ["negatives", "positives"])
def test_the_terms_of_a_batch_without_a_valid_row_are_nan(equal_texts):
    of_none = terms(
        *pairs(), valid=torch.zeros(len(CAPTIONS), dtype=torch.bool), equal_texts=equal_texts
    )
    assert [math.isnan(term) for term in of_none] == [True, True, True]


def test_duplicates_are_the_share_of_captions_that_occur_again():
    assert terms(*pairs()).duplicates.item() == pytest.approx(3 / 5)


def test_retrieving_an_identical_caption_counts_as_correct():
    eye = torch.eye(5, dtype=torch.float64)
    # image 0 finds text 2 and image 2 finds text 4 (the same words), image 1 its own; 3 and 4 miss
    order = [2, 1, 4, 0, 3]
    assert terms(eye[order], eye).accuracy.item() == pytest.approx(3 / 5)


def test_similarities_are_float32_under_autocast():
    image, text = pairs(dtype=torch.float32)
    expected = terms(image, text).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = terms(image, text).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_refuses_rows_that_do_not_match():
    image, text = pairs()
    with pytest.raises(ValueError, match=r"image \(5, 4\), text \(4, 4\), text_id \(5,\)"):
        terms(image, text[:4])
