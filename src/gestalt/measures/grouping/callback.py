"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and pictures.  N images, H W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gestalt.config.schema import ConfigError
from gestalt.evaluation.images import sizes_of
from gestalt.evaluation.protocols import GROUPING_PROTOCOLS, BottomUpProtocol, ImageProtocol
from gestalt.measures.callback import Scorer
from gestalt.measures.context import Context
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.metric import JaccardScore, JaccardSimilarity
from gestalt.measures.grouping.pictures import grouping_panels
from gestalt.measures.measured import LeftOut, Measured
from gestalt.measures.options import Options, Predicted
from gestalt.measures.segmentation.baselines import blocks, constant, object_oracle
from gestalt.measures.shown import Shown

BASELINES = ("whole_image", "blocks", "patch_oracle")
"""The baselines of a model's Jaccard similarity; the oracle takes each object by itself."""


class GroupMaps(Scorer[JaccardScore]):
    """Score the groups of one image set, whatever makes them: numbers, baselines, pictures.

    Args:
        name, protocol, options: as ``Scorer``.

    Attributes:
        baselines: those of each Jaccard similarity, as ``<set>/jaccard_<baseline>``.
        groups: largest number of groups in an image; None before it is known.
    """

    measure = "grouping"
    needs: ClassVar[tuple[str, ...]] = ("instance",)
    tag, suffix = "groups", "_groups"
    baselines: ClassVar[tuple[str, ...]] = ("whole_image", "blocks")
    groups: int | None = None

    def __init__(self, name: str, *, protocol: ImageProtocol, options: Options) -> None:
        metrics = {key: JaccardSimilarity() for key in ("model", *self.baselines)}
        super().__init__(name, protocol=protocol, metrics=metrics, options=options)

    def values(self, score: JaccardScore) -> dict[str, float]:
        """Return the similarity without and with the background, of the model and the baselines."""
        values = {}
        for key, counted in self.scores.items():
            suffix = "" if key == "model" else f"_{key}"
            values[f"jaccard{suffix}"] = counted.jaccard
            values[f"jaccard_with_background{suffix}"] = counted.jaccard_with_background
        return values

    def entry(self, score: JaccardScore) -> dict[str, Any]:
        """Return the number of groups and of objects, and the pixel counts."""
        return {
            "ignored_pixels": score.ignored_pixels,
            "images_with_objects": score.images_with_objects,
            "objects": score.objects,
            "groups": self.groups,
            "counts": {key: counted.overlaps[:, 2:].sum(axis=0).tolist() for key, counted in self.scores.items()},
            "counts_rows": ["best intersections", "their unions"],
        }

    def arrays(self, score: JaccardScore) -> dict[str, NDArray[np.float64]]:
        """Return the values of each image by metric, (N,), nan without objects."""
        return {"jaccard": score.image_jaccard, "jaccard_with_background": score.image_jaccard_with_background}

    def picture(self, shown: Shown) -> Image.Image:
        """Draw image, groups and objects."""
        assert self.groups is not None
        return grouping_panels(shown.image, groups=shown.prediction, instance=shown.label, candidates=self.groups, title=shown.name)


class Grouping(GroupMaps):
    """Score the groups of one image set, and log numbers and pictures.

    Args:
        name, options: as ``Scorer``.
        protocol: how images are resized and grouped.
    """

    baselines = BASELINES
    fixed = frozenset(BASELINES)
    protocol: BottomUpProtocol

    def __init__(self, name: str, *, protocol: BottomUpProtocol, **options: Unpack[Options]) -> None:
        super().__init__(name, protocol=protocol, options=options)
        self.groups = protocol.groups  # None for attention heads until the first batch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up as ``Scorer``; if attention heads are the groups, check that the tower has them before it trains."""
        super().setup(trainer, pl_module, stage)
        if self.protocol.method == "attention":
            model: Any = pl_module.model
            model.check_class_attention()

    def score(self, model: Any, batch: Mapping[str, Any], truth: Sequence[Tensor]) -> list[Tensor]:
        """Group a batch and count."""
        grouped = bottom_up(model, batch["image"], protocol=self.protocol, sizes=sizes_of(truth))
        self.groups = grouped[0].candidates
        predicted = [image.groups for image in grouped]
        predictions: dict[str, Predicted] = {
            "model": predicted,
            "whole_image": lambda: [constant(instance, index=0) for instance in truth],
            "blocks": lambda: [blocks(instance, count=image.candidates) for image, instance in zip(grouped, truth, strict=True)],
            "patch_oracle": lambda: [object_oracle(instance, grid=image.grid) for image, instance in zip(grouped, truth, strict=True)],
        }
        self.count(predictions, truth, batch=batch)
        return predicted


def build(context: Context) -> Measured:
    """Build the scorer of a benchmark's groups, or the callback that reports that its files hold no objects.

    Raises:
        ConfigError: they hold none, and the config names a grouping protocol.
    """
    name, why, chosen = context.benchmark.name, context.image_set.no_instances, context.chosen("grouping")
    if why is None:
        return Grouping(name, protocol=context.protocol("grouping", GROUPING_PROTOCOLS), **context.options)
    if chosen is not None:
        raise ConfigError(f"evaluation.grouping_protocol={chosen}: benchmark {name} has no objects, {why}; choose null to leave it out")
    return LeftOut(name, measure="grouping", why=why)
