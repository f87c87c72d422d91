"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and pictures.  N images, H W pixels."""

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from gestalt.callbacks.segmentation import Shown, gathered_on_first, spread, write_picture
from gestalt.evaluation.baselines import blocks, constant, object_oracle
from gestalt.evaluation.bottom_up import BottomUp, bottom_up
from gestalt.evaluation.pictures import grouping_panels
from gestalt.evaluation.protocols import BottomUpProtocol
from gestalt.jaccard import JaccardScore, JaccardSimilarity

BASELINES = ("whole_image", "blocks", "patch_oracle")
"""What each Jaccard similarity stands beside, as ``<set>/jaccard_<baseline>``; the oracle takes each object by itself."""


class Grouping(Callback):
    """Scores the groups of one image set, whatever the number of ranks, and logs numbers and pictures.

    Args:
        name: of the image set, as its batches say it.
        protocol: how images are resized and grouped.
        length: how many images the whole set has; the handful is spread over it.
        pictures: how many images are shown.

    Raises:
        ValueError: the set has no instance maps; or, at the end of an evaluation, no batch of it came.
    """

    def __init__(self, name: str, *, protocol: BottomUpProtocol, length: int, pictures: int = 6) -> None:
        super().__init__()
        self.name = name
        self.protocol = protocol
        self.length = length
        self.shown_ids = spread(length, count=pictures)
        self.metrics = {key: JaccardSimilarity() for key in ("model", *BASELINES)}
        self.scores: dict[str, JaccardScore] = {}
        self._shown: list[Shown] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from asking for ``sync_dist``: the counts are reduced already, and a mean of equal float32 is not always equal."""
        warnings.filterwarnings("ignore", message=rf"It is recommended to use `self\.log\('{self.name}/")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last evaluation."""
        self._shown = []
        self.scores = {}
        for metric in self.metrics.values():
            metric.to(pl_module.device)
            metric.reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Group a batch of this set, and let other sets pass."""
        if batch["set"] != self.name:
            return
        if "instance" not in batch:
            raise ValueError(f"image set {self.name}: its batches have no 'instance', grouping cannot be scored")
        instances: list[Tensor] = batch["instance"]
        model: Any = pl_module.model
        sizes = [(instance.shape[0], instance.shape[1]) for instance in instances]
        found = bottom_up(model, batch["image"], protocol=self.protocol, sizes=sizes)
        self._count(found, instances=instances, sample_id=batch["sample_id"])
        shown = zip(batch["sample_id"].tolist(), batch["name"], batch["image"], found, instances, strict=True)
        self._shown += [
            Shown(index, name, image=image.cpu(), prediction=one.groups.cpu(), label=instance.cpu())
            for index, name, image, one, instance in shown
            if index in self.shown_ids
        ]

    def _count(self, found: Sequence[BottomUp], *, instances: Sequence[Tensor], sample_id: Tensor) -> None:
        """Update the four metrics."""
        candidates = {
            "model": [one.groups for one in found],
            "whole_image": [constant(instance, index=0) for instance in instances],
            "blocks": [blocks(instance, count=self.protocol.groups) for instance in instances],
            "patch_oracle": [object_oracle(instance, grid=one.grid) for one, instance in zip(found, instances, strict=True)],
        }
        for key, groups in candidates.items():
            self.metrics[key].update(groups, instances, sample_id)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the counts, divide, log on every rank; draw on the first."""
        if not self.metrics["model"].update_called:
            raise ValueError(f"image set {self.name}: this evaluation brought none of its images; is it among the validation sets?")
        self.scores = {key: metric.compute() for key, metric in self.metrics.items()}
        shown = gathered_on_first(self._shown)
        self._shown = []
        if trainer.sanity_checking:
            return
        for key, value in self.logged().items():
            pl_module.log(key, value, on_step=False, on_epoch=True, sync_dist=False, batch_size=1)
        if trainer.is_global_zero:
            self._draw(trainer, shown=sorted(shown, key=lambda one: one.sample_id))

    def logged(self) -> dict[str, float]:
        """Metric keys and values of the last evaluation; what is nan is left out."""
        values = {}
        for key, score in self.scores.items():
            suffix = "" if key == "model" else f"_{key}"
            values[f"{self.name}/jaccard{suffix}"] = score.jaccard
            values[f"{self.name}/jaccard_with_background{suffix}"] = score.jaccard_with_background
        return {key: value for key, value in values.items() if not np.isnan(value)}

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record, empty before the first: metrics, number of groups, counts, provenance."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            "set": self.name,
            "images": score.images,
            "images_in_set": self.length,
            "images_with_objects": score.images_with_objects,
            "objects": score.objects,
            "groups": self.protocol.groups,
            "metrics": self.logged(),
            "counts": {key: one.overlaps[:, 2:].sum(axis=0).tolist() for key, one in self.scores.items()},
            "counts_rows": ["best intersections", "their unions"],
            "protocol": {**dataclasses.asdict(self.protocol), "digest": self.protocol.digest()},
        }

    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """Metric key to a value an image, (N,) in order of image id, nan without objects; empty before the first score."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            f"{self.name}/jaccard": score.image_jaccard,
            f"{self.name}/jaccard_with_background": score.image_jaccard_with_background,
        }

    def _draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures to every TensorBoard logger, and as PNG beside the first log."""
        for position, one in enumerate(shown):
            picture = grouping_panels(one.image, groups=one.prediction, instance=one.label, candidates=self.protocol.groups, title=one.name)
            stem = f"epoch_{trainer.current_epoch:03d}_{one.name}_groups"
            write_picture(trainer, picture=picture, tag=f"{self.name}/groups/{position}", stem=stem)


class LeftOut(Callback):
    """Says that a measure is not taken, and why: at the start, and in the result.

    Args:
        name: of the image set.
        measure: what is left out.
        why: what the set lacks.
    """

    def __init__(self, name: str, *, measure: str, why: str) -> None:
        super().__init__()
        self.name = name
        self.measure = measure
        self.why = why
        self._said = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say it once, on the first rank."""
        if trainer.is_global_zero and not self._said:
            print(f"{self.name}: {self.measure} is left out, {self.why}", file=sys.stderr)
        self._said = True

    def result(self) -> dict[str, Any]:
        """The same for a JSON record, without metrics."""
        return {"set": self.name, "left_out": self.measure, "why": self.why, "metrics": {}}
