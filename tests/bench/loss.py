"""Time the contrastive loss beside open_clip's ClipLoss, and large batches in blocks beside the
whole.  B pairs.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from clock import DEVICE, seconds
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn import functional

from gestalt.losses.contrastive import contrastive_loss, text_ids

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

    def ours(self, chunk: int | None = None, *, measured: bool = False) -> Tensor:
        """Compute the loss as a step without bad samples does: if it is logged, with accuracy and
        share of equal captions.
        """
        given: dict[str, Any] = {
            "directions": "mean",
            "equal_texts": "negatives",
            "chunk": chunk,
            "measured": measured,
        }
        return contrastive_loss(
            self.image, self.text, logit_scale=self.scale, text_id=self.ids, **given
        ).loss

    def theirs(self) -> Tensor:
        """Compute open_clip's loss alone."""
        loss: Tensor = self.open_clip(self.image, self.text, self.scale.exp())
        return loss


def turns(
    works: dict[str, Callable[[], Tensor]], *, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Return the seconds of a forward and a backward pass in each round; the works take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(lambda work=work: [work().backward() for _ in range(calls)]) / calls
            if number > 0:  # the first round warms up
                taken[name].append(spent)
    return taken


def measure(
    *, sizes: tuple[int, ...] = SIZES, large: int = LARGE, width: int = 512, rounds: int = 30
) -> dict[str, Any]:
    """Measure both.

    Raises:
        RuntimeError: the two losses differ.
    """
    rows = []
    for pairs in sizes:
        batch = Batch(pairs, width=width)
        if not torch.allclose(batch.ours(), batch.theirs(), rtol=1e-5):
            raise RuntimeError(
                f"at {pairs} pairs the loss is {batch.ours().item()}, open_clip's "
                f"{batch.theirs().item()}"
            )
        works = {
            "ours": batch.ours,
            "logged": partial(batch.ours, measured=True),
            "theirs": batch.theirs,
        }
        taken = turns(works, rounds=rounds, calls=max(1, 1024 // pairs))
        medians = {name: statistics.median(times) for name, times in taken.items()}
        rows.append(
            {
                "pairs": pairs,
                **medians,
                "ratio": ratio(taken),
                "logged_ratio": ratio(taken, of="logged"),
            }
        )
    batch = Batch(large, width=width)
    taken = turns(
        {"ours": lambda: batch.ours(CHUNK), "theirs": batch.ours},
        rounds=max(1, rounds // 10),
        calls=1,
    )
    return {
        "threads": torch.get_num_threads(),
        "rows": rows,
        "large": large,
        "blocks": ratio(taken),
    }


def ratio(taken: dict[str, list[float]], *, of: str = "ours") -> float:
    """Return the median over rounds of ours, or another work, by theirs."""
    return statistics.median(
        ours / theirs for ours, theirs in zip(taken[of], taken["theirs"], strict=True)
    )


def show(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        f"contrastive loss, forward + backward, {results['threads']} CPU threads; ratio of medians "
        "in turns"
    )
    for row in results["rows"]:
        ours, theirs, logged = (1000 * row[name] for name in ("ours", "theirs", "logged"))
        print(
            f"  {row['pairs']:4d} pairs  {ours:8.3f} ms   open_clip {theirs:8.3f} ms   ratio "
            f"{row['ratio']:.2f}"
            f"   at logged steps {logged:8.3f} ms, {row['logged_ratio']:.2f}"
        )
    print(
        f"  {results['large']} pairs in blocks of {CHUNK}: {results['blocks']:.2f} of the time "
        "without being asked\n"
    )
