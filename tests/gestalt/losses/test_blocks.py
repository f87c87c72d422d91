"""The losses in blocks of rows, on one process.  B pairs, E width, R rows of a block."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from gestalt.losses import contrastive, matrix
from gestalt.losses.captions import text_ids
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.matrix import ContrastiveTerms
from gestalt.losses.sigmoid import sigmoid_loss

CAPTIONS = ["a dog", "a cat", "a dog", "two apples on grass", "a dog", "a red kite", "a cat"]
SCALE, BIAS = math.log(10), -3.0
CHUNKS = [None, 1, 2, 3, len(CAPTIONS), 100]
EQUAL = ["negatives", "positives"]


def inputs(count: int = len(CAPTIONS)) -> list[Tensor]:
    """Images, texts, logarithm of the scale, bias; float64, with gradients."""
    image, text = torch.randn(
        2, count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (SCALE, BIAS)]
    return [
        tensor.requires_grad_()
        for tensor in (
            functional.normalize(image, dim=1),
            functional.normalize(text, dim=1),
            *scalars,
        )
    ]


def terms(
    name: str, image: Tensor, text: Tensor, *scalars: Tensor, **choices: Any
) -> ContrastiveTerms:
    choices = {
        "text_id": text_ids(CAPTIONS),
        "directions": "sum",
        "equal_texts": "negatives",
        **choices,
    }
    if name == "sigmoid":
        return sigmoid_loss(image, text, logit_scale=scalars[0], logit_bias=scalars[1], **choices)
    return contrastive_loss(image, text, logit_scale=scalars[0], **choices)


def values_and_gradients(name: str, **choices: Any) -> list[Tensor]:
    tensors = inputs()[: 4 if name == "sigmoid" else 3]
    found = terms(name, *tensors, **choices)
    torch.autograd.backward(3 * found.loss)  # as a gradient scaler would
    return [*found, *(tensor.grad for tensor in tensors if tensor.grad is not None)]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("equal_texts", EQUAL)
@pytest.mark.parametrize("invalid", [[], [0, 3]], ids=["all_valid", "two_invalid"])
@pytest.mark.parametrize("name", ["contrastive", "sigmoid"])
def test_blocks_of_any_size_give_the_values_and_the_gradient_of_the_whole(
    name, chunk, equal_texts, invalid
):
    """And the same value and gradient where accuracy and duplicates are not measured."""
    valid = torch.ones(len(CAPTIONS), dtype=torch.bool)
    valid[invalid] = False
    choices = {"equal_texts": equal_texts, "valid": valid if invalid else None}
    whole = values_and_gradients(name, **choices)
    found = values_and_gradients(name, **choices, chunk=chunk)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-14)
    loss, accuracy, duplicates, *gradients = values_and_gradients(
        name, **choices, chunk=chunk, measure=False
    )
    assert accuracy is duplicates is None
    torch.testing.assert_close([loss, *gradients], [found[0], *found[3:]], rtol=0, atol=0)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("equal_texts", EQUAL)
@pytest.mark.parametrize("name", ["contrastive", "sigmoid"])
def test_no_tensor_exceeds_a_block_in_either_pass(name, equal_texts):
    ids = text_ids([f"caption {number % 30}" for number in range(64)])
    tensors = inputs(64)[: 4 if name == "sigmoid" else 3]
    with Largest() as largest:
        torch.autograd.backward(
            terms(name, *tensors, text_id=ids, equal_texts=equal_texts, chunk=5).loss
        )
    assert largest.elements == 5 * 64


def test_large_batches_are_split_into_blocks_by_default(monkeypatch):
    tensors = inputs()[:3]
    whole = terms("contrastive", *tensors)
    monkeypatch.setattr(contrastive, "SMALL", 0)
    monkeypatch.setattr(matrix, "BLOCK", 5 * len(CAPTIONS) + 1)
    with Largest() as largest:
        found = terms("contrastive", *tensors)
    assert largest.elements == 5 * len(CAPTIONS)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-14)


def test_the_softmax_of_large_logits_neither_overflows_nor_vanishes():
    vectors = functional.normalize(
        torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), dim=1
    )
    found = [
        contrastive_loss(
            image,
            -image.detach().roll(1, 0),
            logit_scale=torch.tensor(math.log(100)),
            text_id=torch.arange(6),
            directions="sum",
            equal_texts="negatives",
            chunk=chunk,
        )
        for chunk in (None, 2)
        for image in [vectors.clone().requires_grad_()]
    ]
    torch.testing.assert_close(found[1].loss, found[0].loss, rtol=1e-5, atol=0)
    assert found[0].loss.isfinite()
