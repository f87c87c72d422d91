"""Scorer: what every measure of one image set shares: whose batches, when to forget, when to gather, log and draw.  H W pixels."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed
from torchmetrics import Metric

from gestalt.evaluation.protocols import ImageProtocol

Score = TypeVar("Score")
"""What a metric computes."""


class Shown(NamedTuple):
    """An image of the fixed handful, on the CPU.

    Attributes:
        sample_id: its index in the set.
        name: what people call it.
        image: (3, H, W) uint8.
        prediction: (H, W) uint8, or (n, H, W) bool for groups that overlap.
        label: (H, W) uint8.
    """

    sample_id: int
    name: str
    image: Tensor
    prediction: Tensor
    label: Tensor


class Scorer(Callback, ABC, Generic[Score]):
    """Scores one image set at each evaluation, whatever the number of ranks, and logs on all of them.

    A subclass says what it needs of a batch, scores it, and turns the computed scores into metrics; pictures are its choice.

    Args:
        name: of the benchmark; stands in front of every metric.
        image_set: whose batches it scores, as they say it; None where it has the benchmark's name.
        metrics: what is updated and computed, the model's own as ``model``.
        shown_ids: the images that are drawn.

    Attributes:
        measure: what it scores, for people.
        needs: the key of a batch without which it cannot.
        official: how many images the published set has, for the record; what builds the scorer says it, None where nobody knows.
        scores: of the last evaluation, by the key of ``metrics``; empty before the first.

    Raises:
        ValueError: a batch of the set lacks what is needed; or, at the end of an evaluation, no batch of the set came.
    """

    measure: ClassVar[str]
    needs: ClassVar[str]

    def __init__(self, name: str, *, metrics: Mapping[str, Metric], image_set: str | None = None, shown_ids: Sequence[int] = ()) -> None:
        super().__init__()
        self.name = name
        self.image_set = image_set or name
        self.metrics = dict(metrics)
        self.shown_ids = tuple(shown_ids)
        self.official: int | None = None
        self.scores: dict[str, Score] = {}
        self._shown: list[Shown] = []

    @abstractmethod
    def score(self, model: Any, batch: Mapping[str, Any]) -> Sequence[Tensor]:
        """Update the metrics by a batch of the set.  Returns the images' (H, W) predictions, to be drawn, or nothing."""

    @abstractmethod
    def logged(self) -> dict[str, float]:
        """Metric keys and values of the last evaluation; what is nan is left out."""

    def truth(self, batch: Mapping[str, Any]) -> Any:
        """What a batch is scored against, one entry an image.

        Raises:
            ValueError: the batch has none.
        """
        if self.needs not in batch:
            raise ValueError(f"image set {self.image_set}: its batches have no {self.needs!r}, {self.measure} cannot be scored")
        return batch[self.needs]

    def heading(self, protocol: ImageProtocol) -> dict[str, Any]:
        """What an entry of a record begins with: what was measured on which set, its metrics, the protocol with its digest."""
        metrics = self.logged()
        return {
            "set": self.name,
            "image_set": self.image_set,
            "measure": self.measure,
            "metrics": metrics,
            "metric_keys": [key for key in metrics if "/iou/" not in key],
            "images_official": self.official,
            "protocol": {**protocol.fields(), "digest": protocol.digest()},
        }

    def begin(self, model: Any) -> None:
        """What an evaluation needs before its first batch."""

    def gather(self) -> None:
        """What else is gathered over ranks at the end of an evaluation; every rank calls it."""

    def draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures of the handful, on the first rank."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from asking for ``sync_dist``: all is reduced already, and a mean of equal float32 is not always equal."""
        warnings.filterwarnings("ignore", message=rf"It is recommended to use `self\.log\('{self.name}/")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last evaluation."""
        self._shown = []
        self.scores = {}
        for metric in self.metrics.values():
            metric.to(pl_module.device)
            metric.reset()
        self.begin(pl_module.model)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score a batch of this set, and let other sets pass."""
        if batch["set"] != self.image_set:
            return
        truth = self.truth(batch)
        predictions = self.score(pl_module.model, batch)
        for position, index in enumerate(batch["sample_id"].tolist()):
            if index in self.shown_ids:
                image, prediction, label = (part[position].cpu() for part in (batch["image"], predictions, truth))
                self._shown.append(Shown(index, batch["name"][position], image=image, prediction=prediction, label=label))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather, compute, log on every rank; draw on the first."""
        if not self.metrics["model"].update_called:
            raise ValueError(f"image set {self.image_set}: this evaluation brought none of its images; is it among the validation sets?")
        self.scores = {key: metric.compute() for key, metric in self.metrics.items()}
        for metric in self.metrics.values():
            metric.reset()  # embeddings of a whole set need not stay through training
        self.gather()
        shown = gathered_on_first(self._shown) if self.shown_ids else []
        self._shown = []
        if trainer.sanity_checking:
            return
        for key, value in self.logged().items():
            pl_module.log(key, value, on_step=False, on_epoch=True, sync_dist=False, prog_bar=key == f"{self.name}/miou", batch_size=1)
        if trainer.is_global_zero:
            self.draw(trainer, shown=sorted(shown, key=lambda one: one.sample_id))


def without_nan(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """``<set>/<key>`` and value of what is a number."""
    return {f"{name}/{key}": value for key, value in values.items() if not np.isnan(value)}


def spread(length: int, *, count: int) -> tuple[int, ...]:
    """Indices spread evenly over a set, the middle of each of ``count`` equal stretches; fewer when the set is smaller."""
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))


def gathered_on_first(items: list[Shown]) -> list[Shown]:
    """The items of all ranks on the first; nothing on the others.  Every rank must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    rank = distributed.get_rank()
    everyone: list[Any] | None = [None] * distributed.get_world_size() if rank == 0 else None
    distributed.gather_object(items, everyone, dst=0)
    return [item for each in everyone for item in each] if everyone is not None else []
