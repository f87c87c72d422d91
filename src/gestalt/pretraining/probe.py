"""Probe: while pretraining, says what the tower's features know: k-NN accuracy, and principal components of tokens as pictures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gestalt.aggregation import max_of_parts
from gestalt.callbacks.clock import Clock
from gestalt.callbacks.pictures import write_picture
from gestalt.encoders.image import ImageTower
from gestalt.pretraining.nearest import knn_predict, mean_iou, patch_labels, principal_colours
from gestalt.pretraining.pretrainer import Pretrainer, summary_of
from gestalt.tokens import Tokens

CHUNK = 256  # images at a time
PANEL, MARGIN, TITLE = 192, 6, 22  # pixels
WORDS = "patch tokens: first three principal components as red, green, blue, joint over these images"


VECTORS: dict[str, Callable[[Tokens], Tensor]] = {  # an image's one vector: what DINO is scored by, and what CLIPpy makes of the parts
    "summary": summary_of,
    "max": max_of_parts,
}


class Labelled(NamedTuple):
    """Images, (N, 3, H, W) uint8, and their labels, (N,) int64, or class maps, (N, H, W) int64."""

    images: Tensor
    labels: Tensor


class Voters(NamedTuple):
    """Images that k-NN is scored on.

    Attributes:
        bank: training images that vote.
        queries: sets of images that training does not show, by name.
        patch_bank: training images with class maps, (N, H, W) int64, whose patches vote.
        patch_queries: held-out images with class maps.
    """

    bank: Labelled
    queries: dict[str, Labelled]
    patch_bank: Labelled
    patch_queries: Labelled


class Probe(Callback):
    """Scores and draws at the first step, every so often, and at the last; on the first rank only.

    Args:
        clock: what counts the time that it takes.
        every_steps: how often.
        voters: makes the images of k-NN, when they are first needed; None where the source has no labels.
        shown: makes the images whose tokens are drawn, (M, 3, H, W) uint8, when they are first needed; M may be 0.

    Attributes:
        curves: (step, k-NN score): the accuracy of each set of queries by each of ``VECTORS``, as ``<set>/<vector>``, and the mean IoU of
            the classes of patches, as ``patches/miou``.
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
        """What the fresh weights know: what the rest is compared with."""
        if trainer.global_step == 0:
            self._look(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look, when it is time."""
        if trainer.global_step % self.every_steps == 0 or trainer.global_step == trainer.max_steps:
            self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {"curves": self.curves}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Recall them."""
        self.curves = {name: list(curve) for name, curve in state["curves"].items()}

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(module, Pretrainer)
        tower = module.product
        training = tower.training
        tower.eval()
        with torch.no_grad(), self.clock.validating():
            self._score(trainer, tower, module=module)
            self._draw(trainer, tower, device=module.device)
        tower.train(training)

    def _score(self, trainer: Trainer, tower: ImageTower, *, module: Pretrainer) -> None:
        if self._make_voters is None:
            return
        self._voters = self._voters or self._make_voters()
        scores = {
            **self._of_images(tower, self._voters, module.device),
            "patches/miou": self._of_patches(tower, self._voters, module.device),
        }
        for name, score in scores.items():
            self.curves.setdefault(name, []).append((trainer.global_step, score))
            if isinstance(trainer.logger, TensorBoardLogger):
                trainer.logger.experiment.add_scalar(f"knn/{name}", score, trainer.global_step)
        module.print(f"step {trainer.global_step}: k-NN " + ", ".join(f"{name} {score:.3f}" for name, score in scores.items()))

    def _of_images(self, tower: ImageTower, voters: Voters, device: torch.device) -> dict[str, float]:
        bank, labels = vectors(tower, voters.bank.images, device=device), voters.bank.labels.to(device)
        scores = {}
        for name, (images, truth) in voters.queries.items():
            for kind, queries in vectors(tower, images, device=device).items():
                right = knn_predict(bank[kind], labels, queries) == truth.to(device)
                scores[f"{name}/{kind}"] = float(right.float().mean())
        return scores

    def _of_patches(self, tower: ImageTower, voters: Voters, device: torch.device) -> float:
        grid = tower.grid(*voters.patch_bank.images.shape[-2:])
        (bank, labels), (queries, truth) = (
            (patches(tower, part.images, device=device), patch_labels(part.labels, grid=grid).flatten().to(device))
            for part in (voters.patch_bank, voters.patch_queries)
        )
        return mean_iou(knn_predict(bank, labels, queries), truth)

    def _draw(self, trainer: Trainer, tower: ImageTower, *, device: torch.device) -> None:
        images = self._shown = self._make_shown() if self._shown is None else self._shown
        if not len(images):
            return
        tokens = tower(images.to(device))
        assert tokens.grid is not None
        colours = principal_colours(tokens.parts.float()).cpu().reshape(len(images), *tokens.grid, 3)
        write_picture(trainer, picture=principal_picture(images, colours), tag="pca/patches", stem=f"step_{trainer.global_step:06d}")


def vectors(tower: ImageTower, images: Tensor, *, device: torch.device) -> dict[str, Tensor]:
    """(N, 3, H, W) uint8 to (N, D) float32 by each of ``VECTORS``, in chunks."""
    found: dict[str, list[Tensor]] = {kind: [] for kind in VECTORS}
    for part in torch.split(images, CHUNK):
        tokens = tower(part.to(device))
        for kind, vector in VECTORS.items():
            found[kind].append(vector(tokens).float())
    return {kind: torch.cat(parts) for kind, parts in found.items()}


def patches(tower: ImageTower, images: Tensor, *, device: torch.device) -> Tensor:
    """(N, 3, H, W) uint8 to the patch tokens of all, (N * P, D) float32."""
    return torch.cat([tower(part.to(device)).parts.float().flatten(0, 1) for part in torch.split(images, CHUNK)])


def principal_picture(images: Tensor, colours: Tensor) -> Image.Image:
    """Images (M, 3, H, W) uint8 in one row, and below them the colours of their patches (M, h, w, 3) uint8."""
    width = len(images) * (PANEL + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, 2 * (PANEL + MARGIN) + MARGIN + TITLE), "white")
    for column, (image, colour) in enumerate(zip(images, colours, strict=True)):
        left = MARGIN + column * (PANEL + MARGIN)
        for row, pixels in enumerate((image.permute(1, 2, 0), colour)):
            panel = Image.fromarray(np.ascontiguousarray(pixels.numpy())).resize((PANEL, PANEL), Image.Resampling.NEAREST)
            sheet.paste(panel, (left, MARGIN + row * (PANEL + MARGIN)))
    ImageDraw.Draw(sheet).text((MARGIN, 2 * (PANEL + MARGIN) + MARGIN), WORDS, fill="black", font=ImageFont.load_default(13))
    return sheet
