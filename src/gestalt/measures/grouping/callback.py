"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and pictures.  N images, H W pixels."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from gestalt.callbacks.pictures import write_picture
from gestalt.evaluation.protocols import BottomUpProtocol
from gestalt.measures.callback import Scorer, Shown, spread, without_nan
from gestalt.measures.grouping.engine import BottomUp, bottom_up
from gestalt.measures.grouping.metric import JaccardScore, JaccardSimilarity
from gestalt.measures.grouping.pictures import grouping_panels
from gestalt.measures.segmentation.baselines import blocks, constant, object_oracle

BASELINES = ("whole_image", "blocks", "patch_oracle")
"""What each Jaccard similarity stands beside, as ``<set>/jaccard_<baseline>``; the oracle takes each object by itself."""


class Grouping(Scorer[JaccardScore]):
    """Scores the groups of one image set, whatever the number of ranks, and logs numbers and pictures.

    Args:
        name: of the benchmark.
        protocol: how images are resized and grouped.
        length: how many images the whole set has; the handful is spread over it.
        pictures: how many images are shown.
        image_set: as ``Scorer``.

    Raises:
        ValueError: as ``Scorer``.
    """

    measure, needs = "grouping", "instance"

    def __init__(self, name: str, *, protocol: BottomUpProtocol, length: int, pictures: int = 6, image_set: str | None = None) -> None:
        metrics = {key: JaccardSimilarity() for key in ("model", *BASELINES)}
        super().__init__(name, metrics=metrics, image_set=image_set, shown_ids=spread(length, count=pictures))
        self.protocol = protocol
        self.length = length
        self.groups = protocol.groups  # with attention heads known from the first batch on

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As ``Scorer``; and refuse a tower without attention heads before an epoch is spent, where those are the groups."""
        super().setup(trainer, pl_module, stage)
        if self.protocol.method == "attention":
            model: Any = pl_module.model
            model.check_class_attention()

    def score(self, model: Any, batch: Mapping[str, Any]) -> list[Tensor]:
        """Group a batch and count."""
        instances: list[Tensor] = batch["instance"]
        sizes = [(instance.shape[0], instance.shape[1]) for instance in instances]
        found = bottom_up(model, batch["image"], protocol=self.protocol, sizes=sizes)
        self.groups = found[0].candidates
        self._count(found, instances=instances, sample_id=batch["sample_id"])
        return [one.groups for one in found]

    def _count(self, found: Sequence[BottomUp], *, instances: Sequence[Tensor], sample_id: Tensor) -> None:
        """Update the four metrics."""
        candidates = {
            "model": [one.groups for one in found],
            "whole_image": [constant(instance, index=0) for instance in instances],
            "blocks": [blocks(instance, count=one.candidates) for one, instance in zip(found, instances, strict=True)],
            "patch_oracle": [object_oracle(instance, grid=one.grid) for one, instance in zip(found, instances, strict=True)],
        }
        for key, groups in candidates.items():
            self.metrics[key].update(groups, instances, sample_id)

    def logged(self) -> dict[str, float]:
        """Without and with the background, of the model and the baselines."""
        values = {}
        for key, score in self.scores.items():
            suffix = "" if key == "model" else f"_{key}"
            values[f"jaccard{suffix}"] = score.jaccard
            values[f"jaccard_with_background{suffix}"] = score.jaccard_with_background
        return without_nan(self.name, values)

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record, empty before the first: metrics, number of groups, counts, provenance."""
        if not self.scores:
            return {}
        score = self.scores["model"]
        return {
            **self.heading(self.protocol),
            "images": score.images,
            "images_in_set": self.length,
            "ignored_pixels": score.ignored_pixels,
            "images_with_objects": score.images_with_objects,
            "objects": score.objects,
            "groups": self.groups,
            "counts": {key: one.overlaps[:, 2:].sum(axis=0).tolist() for key, one in self.scores.items()},
            "counts_rows": ["best intersections", "their unions"],
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

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures to every TensorBoard logger, and as PNG beside the first log."""
        assert self.groups is not None
        for position, one in enumerate(shown):
            picture = grouping_panels(one.image, groups=one.prediction, instance=one.label, candidates=self.groups, title=one.name)
            stem = f"epoch_{trainer.current_epoch:03d}_{one.name}_groups"
            write_picture(trainer, picture=picture, tag=f"{self.name}/groups/{position}", stem=stem)


class LeftOut(Callback):
    """Says that a measure is not taken, and why: at the start, and in the result.

    Args:
        name: of the benchmark.
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
