"""Segmentation: top-down grouping of one image set at each evaluation, with its baselines and pictures.  C classes, H W pixels."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, distributed

from gestalt.evaluation.baselines import constant, patch_oracle, shuffled_classes
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.evaluation.prompts import ClassEmbeddings, Labels, class_embeddings, used_prompts
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.evaluation.top_down import TopDown, top_down
from gestalt.ledger.predictions import Kept, write_predictions
from gestalt.metrics import MeanIoU, SegmentationScore

BASELINES = ("constant_background", "shuffled_text", "patch_oracle")
"""What each mIoU stands beside, as ``<set>/miou_<baseline>``."""


class Shown(NamedTuple):
    """An image of the fixed handful, on the CPU.

    Attributes:
        sample_id: its index in the set.
        name: what people call it.
        image: (3, H, W) uint8.
        prediction: (H, W) uint8.
        label: (H, W) uint8.
    """

    sample_id: int
    name: str
    image: Tensor
    prediction: Tensor
    label: Tensor


class Segmentation(Callback):
    """Scores one image set, whatever the number of ranks, and logs numbers and pictures.

    Args:
        name: of the image set, as its batches say it.
        labels: classes and their prompts.
        protocol: how images are resized, prompts made and background decided.
        length: how many images the whole set has; the handful is spread over it.
        pictures: how many images are shown.

    Raises:
        ValueError: the label set does not fit the protocol; or, at the end of an evaluation, no batch of the set came.
    """

    def __init__(self, name: str, *, labels: Labels, protocol: TopDownProtocol, length: int, pictures: int = 6) -> None:
        super().__init__()
        used_prompts(labels, protocol=protocol)
        self.name = name
        self.labels = labels
        self.protocol = protocol
        self.length = length
        self.shown_ids = spread(length, count=pictures)
        self.metrics = {key: MeanIoU(len(labels.names)) for key in ("model", *BASELINES)}
        self.scores: dict[str, SegmentationScore] = {}
        self._shown: list[Shown] = []
        self._prompts: ClassEmbeddings | None = None

    @property
    def constant_class(self) -> int:
        """What the constant baseline says: background, or the first class of a set that has none."""
        return self.labels.background or 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from asking for ``sync_dist``: the counts are reduced already, and a mean of equal float32 is not always equal."""
        warnings.filterwarnings("ignore", message=rf"It is recommended to use `self\.log\('{self.name}/")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Embed the classes anew, since the text tower trains; forget the last evaluation."""
        model: Any = pl_module.model
        self._prompts = class_embeddings(model, self.labels, protocol=self.protocol)
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
        """Segment a batch of this set, and let other sets pass."""
        if batch["set"] != self.name:
            return
        assert self._prompts is not None
        if "label" not in batch:
            raise ValueError(f"image set {self.name}: its batches have no 'label', segmentation cannot be scored")
        labels: list[Tensor] = batch["label"]
        model: Any = pl_module.model
        sizes = [(label.shape[0], label.shape[1]) for label in labels]
        found = top_down(model, batch["image"], prompts=self._prompts, protocol=self.protocol, sizes=sizes)
        self._count(found, labels=labels, sample_id=batch["sample_id"])
        for index, one, image, label, name in zip(batch["sample_id"].tolist(), found, batch["image"], labels, batch["name"], strict=True):
            if index in self.shown_ids:
                self._shown.append(Shown(index, name, image=image.cpu(), prediction=one.prediction.cpu(), label=label.cpu()))

    def _count(self, found: Sequence[TopDown], *, labels: Sequence[Tensor], sample_id: Tensor) -> None:
        """Update the four metrics."""
        assert self._prompts is not None
        swap = shuffled_classes(len(self.labels.names), prompts=self._prompts)
        predictions = {
            "model": [one.prediction for one in found],
            "constant_background": [constant(label, index=self.constant_class) for label in labels],
            "shuffled_text": [swap[one.prediction.long()] for one in found],
            "patch_oracle": [patch_oracle(label, grid=one.grid) for one, label in zip(found, labels, strict=True)],
        }
        for key, prediction in predictions.items():
            self.metrics[key].update(prediction, labels, sample_id)

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
            pl_module.log(key, value, on_step=False, on_epoch=True, sync_dist=False, prog_bar=key == f"{self.name}/miou", batch_size=1)
        if trainer.is_global_zero:
            self._draw(trainer, shown=sorted(shown, key=lambda one: one.sample_id))

    def logged(self) -> dict[str, float]:
        """Metric keys and values of the last evaluation; what is nan is left out."""
        score = self.scores["model"]
        values = {"miou": score.miou, "pixel_accuracy": score.pixel_accuracy}
        values |= {f"miou_{key}": self.scores[key].miou for key in BASELINES}
        values |= {f"iou/{key}": float(iou) for key, iou in zip(class_keys(self.labels.names), score.iou, strict=True)}
        return {f"{self.name}/{key}": value for key, value in values.items() if not np.isnan(value)}

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record, empty before the first: metrics, IoU of each class (None for nan), counts, provenance."""
        if not self.scores:
            return {}
        return {
            "set": self.name,
            "images": self.scores["model"].images,
            "images_in_set": self.length,
            "metrics": self.logged(),
            "names": list(self.labels.names),
            "iou": [None if np.isnan(value) else value for value in self.scores["model"].iou.tolist()],
            "counts": {key: self.scores[key].counts.tolist() for key in self.scores},
            "counts_rows": ["intersection", "prediction", "truth"],
            "constant_class": self.constant_class,
            "protocol": {**dataclasses.asdict(self.protocol), "digest": self.protocol.digest()},
            "label_set": self.labels.digest(),
        }

    def per_image(self) -> dict[str, NDArray[np.int64]]:
        """``<set>/counts``, (N, 3, C) pixels of intersection, prediction and truth, in order of image id; empty before the first score."""
        return {f"{self.name}/counts": self.scores["model"].image_counts} if self.scores else {}

    def _draw(self, trainer: Trainer, *, shown: Sequence[Shown]) -> None:
        """Pictures to every TensorBoard logger, and as PNG beside the first log, with the arrays they were drawn from."""
        for folder in log_folders(trainer)[:1]:
            kept = [Kept(one.name, one.image.numpy(), prediction=one.prediction.numpy(), label=one.label.numpy()) for one in shown]
            path = folder / "predictions" / f"{self.name}.npz"
            write_predictions(path, names=self.labels.names, background=self.labels.background, images=kept)
        for position, one in enumerate(shown):
            picture = segmentation_panels(
                one.image,
                prediction=one.prediction,
                truth=one.label,
                names=self.labels.names,
                background=self.labels.background,
                title=one.name,
            )
            write_picture(
                trainer, picture=picture, tag=f"{self.name}/pictures/{position}", stem=f"epoch_{trainer.current_epoch:03d}_{one.name}"
            )


def spread(length: int, *, count: int) -> tuple[int, ...]:
    """Indices spread evenly over a set, the middle of each of ``count`` equal stretches; fewer when the set is smaller."""
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))


def class_keys(names: Sequence[str]) -> list[str]:
    """The class names, each with its index where a set gives two classes one name."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} {index}" for index, name in enumerate(names)]


def gathered_on_first(items: list[Shown]) -> list[Shown]:
    """The items of all ranks on the first; nothing on the others.  Every rank must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    rank = distributed.get_rank()
    everyone: list[Any] | None = [None] * distributed.get_world_size() if rank == 0 else None
    distributed.gather_object(items, everyone, dst=0)
    return [item for each in everyone for item in each] if everyone is not None else []


def write_picture(trainer: Trainer, *, picture: Image.Image, tag: str, stem: str) -> None:
    """Show a picture in TensorBoard under its tag, and keep ``<log_dir>/pictures/<set>/<stem>.png``; on the first rank only."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, np.array(picture), trainer.global_step, dataformats="HWC")
    for folder in log_folders(trainer)[:1]:
        path = folder / "pictures" / tag.partition("/")[0] / f"{stem.replace('/', '_')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def log_folders(trainer: Trainer) -> list[Path]:
    """The folders that loggers write to."""
    return [Path(folder) for folder in (getattr(logger, "log_dir", None) for logger in trainer.loggers) if isinstance(folder, str)]
