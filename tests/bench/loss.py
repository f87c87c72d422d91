"""Time the contrastive loss beside open_clip's ClipLoss, and large batches in blocks beside the
whole.  B pairs.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from clock import DEVICE, in_turns, ratio
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn import functional

from gestalt.losses.captions import text_ids
from gestalt.losses.contrastive import contrastive_loss

SIZES = (32, 64, 128, 256, 512)
LARGE, CHUNK = 4096, 256


class Batch:
    """Normalised float32 embeddings of B pairs with different captions, on one rank; both losses as
    the mean of directions.
    """

    def __init__(self, pairs: int, *, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        sides = [
            functional.normalize(torch.randn(pairs, width, generator=generator), dim=1).to(DEVICE)
            for _ in range(2)
        ]
        self.image, self.text = (side.requires_grad_() for side in sides)
        self.scale = torch.tensor(2.66, device=DEVICE, requires_grad=True)
        self.ids = text_ids([f"caption {number}" for number in range(pairs)]).to(DEVICE)
        self.open_clip = ClipLoss(cache_labels=True)

    def ours(self, chunk: int | None = None, *, measure: bool = False) -> Tensor:
        """Compute the loss as a step without bad samples does: if it is logged, with accuracy and
        share of equal captions.
        """
        given: dict[str, Any] = {
            "directions": "mean",
            "equal_texts": "negatives",
            "chunk": chunk,
            "measure": measure,
        }
        return contrastive_loss(
            self.image, self.text, logit_scale=self.scale, text_id=self.ids, **given
        ).loss

    def theirs(self) -> Tensor:
        """Compute open_clip's loss alone."""
        loss: Tensor = self.open_clip(self.image, self.text, self.scale.exp())
        return loss


def with_backward(loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a forward and a backward pass."""
    return lambda: loss().backward()


def measure(
    *, sizes: tuple[int, ...] = SIZES, large: int = LARGE, width: int = 512, rounds: int = 30
) -> dict[str, Any]:
    """Measure both.

    Raises:
        RuntimeError: the two losses differ.
    """
    rows: list[dict[str, Any]] = []
    for pairs in sizes:
        batch = Batch(pairs, width=width)
        if not torch.allclose(batch.ours(), batch.theirs(), rtol=1e-5):
            raise RuntimeError(
                f"at {pairs} pairs the loss is {batch.ours().item()}, open_clip's "
                f"{batch.theirs().item()}"
            )
        works = {
            "ours": with_backward(batch.ours),
            "logged": with_backward(partial(batch.ours, measure=True)),
            "open_clip": with_backward(batch.theirs),
        }
        taken = in_turns(works, rounds=rounds, calls=max(1, 1024 // pairs))
        rows.append(
            {
                "pairs": pairs,
                **{f"{name} ms": 1000 * statistics.median(taken[name]) for name in works},
                "ratio": ratio(taken["ours"], taken["open_clip"]),
                "logged ratio": ratio(taken["logged"], taken["open_clip"]),
            }
        )
    batch = Batch(large, width=width)
    works = {
        "blocks": with_backward(partial(batch.ours, CHUNK)),
        "whole": with_backward(batch.ours),
    }
    taken = in_turns(works, rounds=max(1, rounds // 10))
    return {
        "title": f"contrastive loss, forward + backward, {torch.get_num_threads()} CPU threads; "
        f"{large} pairs in blocks of {CHUNK}: {ratio(taken['blocks'], taken['whole']):.2f} of the "
        "time without being asked",
        "rows": rows,
    }
