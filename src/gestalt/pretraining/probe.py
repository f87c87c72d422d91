"""Probe: scores the tower's features during pretraining by weighted k-NN.

N bank images or patches, M queries, D width, h w patch grid, H W pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from gestalt.aggregation import max_of_parts
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.module import Pretrainer, summary_of
from gestalt.tokens import Tokens
from gestalt.training.clock import Clock

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Source: facebookresearch/dino at 45801c3, eval_knn.py, which recommends 20."""

QUERIES = 1024  # at a time
IMAGES = 256  # at a time

Readers = dict[str, Callable[[Tokens], Tensor]]

# image vectors that are scored: DINO's, and CLIPpy's
VECTORS: Readers = {"summary": summary_of, "max": max_of_parts}
PATCHES: Readers = {"patches": lambda tokens: tokens.parts.flatten(0, 1)}


class Labelled(NamedTuple):
    """Images (N, 3, H, W) uint8, and their labels (N,) int64 or class maps (N, H, W) int64."""

    images: Tensor
    labels: Tensor


class Voters(NamedTuple):
    """Images for k-NN.

    Attributes:
        bank: training images, which vote.
        queries: sets of held-out images, by name.
        patch_bank: training images with class maps, whose patches vote.
        patch_queries: held-out images with class maps.
    """

    bank: Labelled
    queries: dict[str, Labelled]
    patch_bank: Labelled
    patch_queries: Labelled


class Probe(Callback):
    """Scores the tower before the first step, every ``every_steps`` and after the last; on the
    first rank only.

    Args:
        clock: counts the time spent as validation.
        every_steps: steps between two scores.
        make_voters: makes the images for k-NN at first use; None for a source without labels.

    Attributes:
        curves: (step, k-NN score) by name: accuracy as ``<queries>/<vector>``, mean IoU of patch
            classes as ``patches/miou``.
    """

    def __init__(
        self, clock: Clock, *, every_steps: int, make_voters: Callable[[], Voters] | None
    ) -> None:
        self.clock = clock
        self.every_steps = every_steps
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._make_voters = make_voters
        self._voters: Voters | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the fresh weights, the baseline of the curves."""
        if trainer.global_step == 0:
            self._score(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score every ``every_steps`` and after the last step."""
        if trainer.global_step % self.every_steps == 0 or trainer.global_step == trainer.max_steps:
            self._score(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the curves."""
        self.curves = {name: list(curve) for name, curve in state["curves"].items()}

    def _score(self, trainer: Trainer, module: LightningModule) -> None:
        if self._make_voters is None or not trainer.is_global_zero:
            return
        assert isinstance(module, Pretrainer)
        tower, training = module.trained_tower, module.trained_tower.training
        tower.eval()
        with torch.no_grad(), self.clock.validating():
            voters = self._voters = self._voters or self._make_voters()
            scores = {
                **image_scores(tower, voters, module.device),
                "patches/miou": patch_score(tower, voters, module.device),
            }
        tower.train(training)
        for name, score in scores.items():
            self.curves.setdefault(name, []).append((trainer.global_step, score))
        if trainer.logger is not None:
            trainer.logger.log_metrics(
                {f"knn/{name}": score for name, score in scores.items()}, trainer.global_step
            )
        module.print(
            f"step {trainer.global_step}: k-NN "
            + ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        )


def image_scores(tower: ImageTower, voters: Voters, device: torch.device) -> dict[str, float]:
    """Return the k-NN accuracy of each set of queries by each image vector."""
    bank, labels = encoded(tower, voters.bank.images, VECTORS), voters.bank.labels.to(device)
    scores = {}
    for name, (images, truth) in voters.queries.items():
        for kind, queries in encoded(tower, images, VECTORS).items():
            correct = knn_predict(bank[kind], labels, queries) == truth.to(device)
            scores[f"{name}/{kind}"] = float(correct.float().mean())
    return scores


def patch_score(tower: ImageTower, voters: Voters, device: torch.device) -> float:
    """Return the k-NN mean IoU of patch classes."""
    bank, queries = (
        encoded(tower, images, PATCHES)["patches"]
        for images, _ in (voters.patch_bank, voters.patch_queries)
    )
    labels, truth = (
        patch_labels(maps, grid=tower.grid(*images.shape[-2:])).flatten().to(device)
        for images, maps in (voters.patch_bank, voters.patch_queries)
    )
    return mean_iou(knn_predict(bank, labels, queries), truth)


def encoded(tower: ImageTower, images: Tensor, readers: Readers) -> dict[str, Tensor]:
    """Encode images in chunks, on the tower's device.  (N, 3, H, W) uint8 to the vectors of each
    reader, float32.
    """
    chunks: dict[str, list[Tensor]] = {kind: [] for kind in readers}
    for chunk in torch.split(images, IMAGES):
        tokens = tower(chunk.to(tower.mean.device))
        for kind, read in readers.items():
            chunks[kind].append(read(tokens).float())
    return {kind: torch.cat(parts) for kind, parts in chunks.items()}


def knn_predict(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Classify queries (M, D) by a vote of their nearest neighbours by cosine, weighted by
    exp(cosine / temperature), as (M,) int64.

    The bank is (N, D) with labels (N,) int64; all of it votes if N is below ``NEIGHBOURS``.
    """
    bank, queries = functional.normalize(bank, dim=-1), functional.normalize(queries, dim=-1)
    classes = int(labels.max()) + 1
    winners = []
    for start in range(0, len(queries), QUERIES):
        chunk = queries[start : start + QUERIES]
        cosine, nearest = (chunk @ bank.T).topk(min(NEIGHBOURS, len(bank)), dim=-1)  # (m, k)
        votes = torch.zeros(len(chunk), classes, device=chunk.device).scatter_add_(
            1, labels[nearest], (cosine / TEMPERATURE).exp()
        )
        winners.append(votes.argmax(dim=-1))
    return torch.cat(winners)


def mean_iou(prediction: Tensor, truth: Tensor) -> float:
    """Return the intersection over union, mean over the classes of ``truth``; both (M,) int64."""
    ious = [
        ((prediction == c) & (truth == c)).sum() / ((prediction == c) | (truth == c)).sum()
        for c in sorted(set(truth.tolist()))
    ]
    return float(torch.stack(ious).mean())


def patch_labels(maps: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Return the most frequent class of each patch, at ties the lowest.  (M, H, W) int64 to (M, h *
    w) int64.
    """
    count, height, width = maps.shape
    rows, columns = grid
    cells = (
        maps.reshape(count, rows, height // rows, columns, width // columns)
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)
    )
    counts = functional.one_hot(cells, int(maps.max()) + 1).sum(dim=2)  # (M, h * w, classes)
    return counts.argmax(dim=-1)
