"""The contrastive loss and its gradient: the device's equal the CPU's.  B pairs, E width."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.losses.captions import text_ids
from gestalt.losses.contrastive import contrastive_loss

PAIRS, WIDTH = 96, 64
TOLERANCE = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
}


def terms_and_gradients(
    device: torch.device,
    *,
    dtype: torch.dtype,
    valid: Tensor,
    autocast: bool = False,
    **choices: Any,
) -> list[Tensor]:
    """Loss, accuracy and share of equal captions, then the gradients of images, texts and logit
    scale; on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, PAIRS, WIDTH, generator=generator, dtype=torch.float64)
    leaves = [
        functional.normalize(side, dim=1).to(device, dtype).requires_grad_()
        for side in (image, text)
    ]
    leaves.append(torch.tensor(2.66, device=device, dtype=dtype, requires_grad=True))
    ids = text_ids([f"caption {number % 80}" for number in range(PAIRS)]).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        terms = contrastive_loss(
            leaves[0],
            leaves[1],
            logit_scale=leaves[2],
            text_id=ids,
            valid=valid.to(device),
            **choices,
        )
    return [value.detach().cpu() for value in (*terms, *torch.autograd.grad(terms.loss, leaves))]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("directions", ["sum", "mean"])
@pytest.mark.parametrize("equal_texts", ["negatives", "positives"])
@pytest.mark.parametrize("invalid", [0, 7])
def test_loss_and_gradient_equal_the_cpu(device, dtype, directions, equal_texts, invalid):
    valid = torch.ones(PAIRS, dtype=torch.bool)
    valid[:invalid] = False
    choices = {"dtype": dtype, "valid": valid, "directions": directions, "equal_texts": equal_texts}
    expected = terms_and_gradients(torch.device("cpu"), **choices)
    torch.testing.assert_close(terms_and_gradients(device, **choices), expected, **TOLERANCE[dtype])


def test_under_autocast_similarities_stay_float32(device):
    valid = torch.ones(PAIRS, dtype=torch.bool)
    choices: dict[str, Any] = {
        "dtype": torch.float32,
        "valid": valid,
        "directions": "sum",
        "equal_texts": "negatives",
    }
    plain = terms_and_gradients(device, **choices)
    torch.testing.assert_close(
        terms_and_gradients(device, autocast=True, **choices), plain, **TOLERANCE[torch.float32]
    )
