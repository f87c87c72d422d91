"""Grouping: bottom-up grouping of one image set at each evaluation, with its baselines and
pictures.  N images, H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from gestalt.config.schema import ConfigError
from gestalt.evaluation.images import sizes_of
from gestalt.evaluation.predictions import ScoredImage
from gestalt.measures.callback import Baseline, Batch, Entry, Scorer
from gestalt.measures.context import Context
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.metric import JaccardScore, JaccardSimilarity
from gestalt.measures.grouping.pictures import grouping_panels
from gestalt.measures.grouping.protocol import BottomUpProtocol
from gestalt.measures.measured import LeftOut, Measured
from gestalt.measures.segmentation.baselines import blocks, object_oracle
from gestalt.support.arrays import Floats


class GroupMaps(Scorer):
    """Score the groups that come with the batches of one set, (H, W) uint8 from 0 on: numbers,
    baselines, pictures.

    The groups are another system's; a subclass makes its own.

    Args:
        name, options: as ``Scorer``.

    Attributes:
        baselines: those of each Jaccard similarity, as ``<benchmark>/jaccard_<baseline>``.
        groups: largest number of groups in an image; None before it is known.
    """

    measure = "grouping"
    needs: tuple[str, ...] = ("instance", "prediction")
    tag, suffix = "groups", "_groups"
    baselines: tuple[str, ...] = ("whole_image", "blocks")
    groups: int | None = None

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(
            name,
            metrics={key: JaccardSimilarity() for key in ("model", *self.baselines)},
            **options,
        )

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Count the groups of a batch."""
        predictions = batch["prediction"]
        counts = [int(groups.max()) + 1 for groups in predictions]
        self.groups = max(self.groups or 0, *counts)
        return self.count(predictions, truth, batch=batch, **partitions(truth, counts))

    def values(self, score: JaccardScore) -> dict[str, float]:
        """Return the similarity without and with the background, of the model and the baselines."""
        values = {}
        for key, counted in self.scores.items():
            suffix = "" if key == "model" else f"_{key}"
            values[f"jaccard{suffix}"] = counted.jaccard
            values[f"jaccard_with_background{suffix}"] = counted.jaccard_with_background
        return values

    def entry(self, score: JaccardScore) -> Entry:
        """Return the number of groups and of objects, and the pixel counts."""
        return {
            "ignored_pixels": score.ignored_pixels,
            "images_with_objects": score.images_with_objects,
            "objects": score.objects,
            "groups": self.groups,
            "counts": {
                key: counted.overlaps[:, 2:].sum(axis=0).tolist()
                for key, counted in self.scores.items()
            },
            "counts_rows": ["best intersections", "their unions"],
        }

    def arrays(self, score: JaccardScore) -> dict[str, Floats]:
        """Return the values of each image by metric, (N,), nan without objects."""
        return {
            "jaccard": score.image_jaccard,
            "jaccard_with_background": score.image_jaccard_with_background,
        }

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw image, groups and objects."""
        assert self.groups is not None
        return grouping_panels(shown, candidates=self.groups)


class Grouping(GroupMaps):
    """Group the images of one set by the image tower, and score the groups."""

    needs = ("instance",)
    baselines = ("whole_image", "blocks", "patch_oracle")  # the oracle takes each object by itself
    fixed = frozenset(baselines)
    protocol: BottomUpProtocol

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set up as ``Scorer``; if attention heads are the groups, check that the tower has them
        before it trains.
        """
        super().setup(trainer, pl_module, stage)
        if self.protocol.method == "attention":
            model: Any = pl_module.model
            model.check_class_attention()

    def begin(self, model: Any, **embedding: Any) -> None:
        """Prepare as ``Scorer``, and fit the protocol to the model's patches."""
        super().begin(model, **embedding)
        self.protocol = self.protocol.fitted_to(model.patch_stride)

    def score(self, model: Any, batch: Batch, truth: Sequence[Tensor]) -> list[Tensor]:
        """Group a batch and count."""
        grouped = bottom_up(model, batch["image"], self.protocol, sizes_of(truth))
        # masks, one of each head, where the protocol has no number
        self.groups = self.protocol.groups or len(grouped[0].groups)
        return self.count(
            [image.groups for image in grouped],
            truth,
            batch=batch,
            **partitions(truth, [self.groups] * len(grouped)),
            patch_oracle=map(object_oracle, truth, [image.grid for image in grouped]),
        )


def partitions(truth: Sequence[Tensor], counts: Sequence[int]) -> dict[str, Baseline]:
    """Return the baselines without a model, of as many groups as ``counts`` in each image of a
    batch.
    """
    return {"whole_image": map(torch.zeros_like, truth), "blocks": map(blocks, truth, counts)}


def build(context: Context) -> Measured:
    """Build the scorer of a benchmark's groups, or the callback that reports that its files hold no
    objects.

    Raises:
        ConfigError: they hold none, and the config names a grouping protocol.
    """
    name, why = context.benchmark.name, context.image_set.no_instances
    chosen = context.chosen("grouping")
    if why is None:
        return context.scorer(Grouping)
    if chosen is not None:
        raise ConfigError(
            f"evaluation.grouping_protocol={chosen}: benchmark {name} has no objects, {why}; "
            "choose null to leave it out"
        )
    return LeftOut(name, measure="grouping", why=why)
