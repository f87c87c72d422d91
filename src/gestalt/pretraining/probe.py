"""Probe: measures the tower's features during pretraining, by k-NN and by pictures of principal components.

N bank images, M drawn images, D width, P patches an image, h w patch grid, H W pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gestalt.aggregation import max_of_parts
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.nearest import knn_predict, mean_iou, patch_labels, principal_colours
from gestalt.pretraining.pretrainer import Pretrainer, summary_of
from gestalt.tokens import Tokens
from gestalt.training.clock import Clock
from gestalt.training.pictures import write_picture

CHUNK = 256  # images at a time
PANEL, MARGIN, TITLE = 192, 6, 22  # pixels
CAPTION = "patch tokens: first three principal components as red, green, blue, joint over these images"

VECTORS: dict[str, Callable[[Tokens], Tensor]] = {  # image vectors that are scored: DINO's, and CLIPpy's
    "summary": summary_of,
    "max": max_of_parts,
}


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
    """Scores and draws the tower before the first step, every ``every_steps`` and after the last; on the first rank only.

    Args:
        clock: counts the time spent as validation.
        every_steps: steps between two measurements.
        voters: makes the images for k-NN at first use; None for a source without labels.
        shown: makes the images to draw, (M, 3, H, W) uint8, at first use; M may be 0.

    Attributes:
        curves: (step, k-NN score) by name: accuracy as ``<queries>/<vector>``, mean IoU of patch classes as ``patches/miou``.
    """

    def __init__(self, clock: Clock, *, every_steps: int, voters: Callable[[], Voters] | None, shown: Callable[[], Tensor]) -> None:
        self.clock = clock
        self.every_steps = every_steps
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._make_voters = voters
        self._make_shown = shown
        self._shown: Tensor | None = None
        self._voters: Voters | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the fresh weights, the baseline of the curves."""
        if trainer.global_step == 0:
            self._measure(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure every ``every_steps`` and after the last step."""
        if trainer.global_step % self.every_steps == 0 or trainer.global_step == trainer.max_steps:
            self._measure(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the curves."""
        self.curves = {name: list(curve) for name, curve in state["curves"].items()}

    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(module, Pretrainer)
        tower = module.trained_tower
        training = tower.training
        tower.eval()
        with torch.no_grad(), self.clock.validating():
            self._score(trainer, tower, module=module)
            self._draw(trainer, tower, device=module.device)
        tower.train(training)

    def _score(self, trainer: Trainer, tower: ImageTower, *, module: Pretrainer) -> None:
        if self._make_voters is None:
            return
        voters = self._voters = self._voters or self._make_voters()
        scores = {**_image_scores(tower, voters, module.device), "patches/miou": _patch_score(tower, voters, module.device)}
        for name, score in scores.items():
            self.curves.setdefault(name, []).append((trainer.global_step, score))
            if isinstance(trainer.logger, TensorBoardLogger):
                trainer.logger.experiment.add_scalar(f"knn/{name}", score, trainer.global_step)
        module.print(f"step {trainer.global_step}: k-NN " + ", ".join(f"{name} {score:.3f}" for name, score in scores.items()))

    def _draw(self, trainer: Trainer, tower: ImageTower, *, device: torch.device) -> None:
        images = self._shown = self._make_shown() if self._shown is None else self._shown
        if not len(images):
            return
        tokens = tower(images.to(device))
        assert tokens.grid is not None
        colours = principal_colours(tokens.parts.float()).cpu().reshape(len(images), *tokens.grid, 3)
        write_picture(trainer, picture=principal_picture(images, colours), tag="pca/patches", stem=f"step_{trainer.global_step:06d}")


def _image_scores(tower: ImageTower, voters: Voters, device: torch.device) -> dict[str, float]:
    """Return the k-NN accuracy of each set of queries by each image vector."""
    bank, labels = vectors(tower, voters.bank.images, device=device), voters.bank.labels.to(device)
    scores = {}
    for name, (images, truth) in voters.queries.items():
        for kind, queries in vectors(tower, images, device=device).items():
            correct = knn_predict(bank[kind], labels, queries) == truth.to(device)
            scores[f"{name}/{kind}"] = float(correct.float().mean())
    return scores


def _patch_score(tower: ImageTower, voters: Voters, device: torch.device) -> float:
    """Return the k-NN mean IoU of patch classes."""
    grid = tower.grid(*voters.patch_bank.images.shape[-2:])
    (bank, labels), (queries, truth) = (
        (patches(tower, labelled.images, device=device), patch_labels(labelled.labels, grid=grid).flatten().to(device))
        for labelled in (voters.patch_bank, voters.patch_queries)
    )
    return mean_iou(knn_predict(bank, labels, queries), truth)


def vectors(tower: ImageTower, images: Tensor, *, device: torch.device) -> dict[str, Tensor]:
    """Encode images in chunks.  (N, 3, H, W) uint8 to (N, D) float32 for each of ``VECTORS``."""
    chunks: dict[str, list[Tensor]] = {kind: [] for kind in VECTORS}
    for chunk in torch.split(images, CHUNK):
        tokens = tower(chunk.to(device))
        for kind, vector in VECTORS.items():
            chunks[kind].append(vector(tokens).float())
    return {kind: torch.cat(parts) for kind, parts in chunks.items()}


def patches(tower: ImageTower, images: Tensor, *, device: torch.device) -> Tensor:
    """Encode images in chunks.  (N, 3, H, W) uint8 to the patch tokens of all, (N * P, D) float32."""
    return torch.cat([tower(chunk.to(device)).parts.float().flatten(0, 1) for chunk in torch.split(images, CHUNK)])


def principal_picture(images: Tensor, colours: Tensor) -> Image.Image:
    """Draw images (M, 3, H, W) uint8 in one row, and below them the colours of their patches (M, h, w, 3) uint8."""
    width = len(images) * (PANEL + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, 2 * (PANEL + MARGIN) + MARGIN + TITLE), "white")
    for column, (image, colour) in enumerate(zip(images, colours, strict=True)):
        left = MARGIN + column * (PANEL + MARGIN)
        for row, pixels in enumerate((image.permute(1, 2, 0), colour)):
            panel = Image.fromarray(np.ascontiguousarray(pixels.numpy())).resize((PANEL, PANEL), Image.Resampling.NEAREST)
            sheet.paste(panel, (left, MARGIN + row * (PANEL + MARGIN)))
    ImageDraw.Draw(sheet).text((MARGIN, 2 * (PANEL + MARGIN) + MARGIN), CAPTION, fill="black", font=ImageFont.load_default(13))
    return sheet
