"""Base classes of the callbacks with an entry in the record: those that score an image set at each
evaluation, and those that report why a measure is left out.
"""

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from gestalt.data_modules.image_sets import LabelSet
from gestalt.encoders.dense_model import DenseModel, share_passes
from gestalt.measures.context import Context, Entry
from gestalt.measures.evaluation.pictures import ScoredImage
from gestalt.measures.evaluation.prompts import (
    class_embeddings,
    prompts_folder,
    templates_digest,
    used_prompts,
)
from gestalt.support.arrays import Array
from gestalt.support.faults import Caveat
from gestalt.support.ranks import objects_on_first
from gestalt.training.board import write_picture

Batch = Mapping[str, Any]
"""A batch of an image set, by field."""

Baseline = Iterable[Tensor]
"""The predictions of a batch, each made when it is counted."""


def spread(length: int, count: int) -> tuple[int, ...]:
    """Return indices spread evenly over a set: the middle of each of ``count`` equal stretches, or
    fewer of a smaller set.
    """
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))


class RecordedCallback(Callback, ABC):
    """Base class of callbacks that have an entry in the record of a run or an evaluation.

    Args:
        name: name of the benchmark.

    Attributes:
        measure: a row of the table of measures.
    """

    measure: str

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @abstractmethod
    def result(self) -> Entry:
        """Return the entry as JSON; its ``metrics`` are those of the last evaluation."""

    def per_image(self) -> dict[str, Array]:
        """Return ``<benchmark>/<name>`` to an array of each image's contribution, in order of image
        id.
        """
        return {}


class SkippedMeasure(RecordedCallback):
    """Report a measure that is left out: once at the start, and in the record.

    Args:
        name: name of the benchmark.
        measure: the one that is left out.
        why: the reason, for messages.
    """

    def __init__(self, name: str, *, measure: str, why: str) -> None:
        super().__init__(name)
        self.measure = measure
        self.why = why
        self._printed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the reason once, on the first rank."""
        if trainer.is_global_zero and not self._printed:
            print(f"{self.name}: {self.measure} is left out, {self.why}", file=sys.stderr)
        self._printed = True

    def result(self) -> Entry:
        """Return the reason for a JSON record, without metrics."""
        return {"set": self.name, "left_out": self.measure, "why": self.why, "metrics": {}}


class Scorer(RecordedCallback):
    """Base class: select the batches of one image set, score them exactly on any number of ranks,
    log on all of them, and draw.

    A subclass updates the metrics by a batch and turns the computed scores into values, an entry of
    the record and arrays.

    Args:
        context: the benchmark, whose name is the prefix of every metric, its image set, and how it
            is evaluated; the images to draw are spread over the set.
        metrics: that of the model as ``model``, and those of the baselines by name.
        labels: the classes; None for a measure without classes.
        prompted: classes to embed, by the protocol's prompts; None for a measure that embeds no
            classes.

    Attributes:
        protocol: an ``ImageProtocol``, how images are resized and scored.
        length: number of images in the whole set, for the record; None to leave it out.
        needs: the keys that a batch must have, the truth first.
        tag: TensorBoard tag of its pictures; empty if it draws none.
        suffix: the end of the names of its picture files.
        fixed: keys of the baselines that do not depend on weights; counted only in the first
            evaluation of a run.
        scores: scores of the last evaluation, by the key of ``metrics``; empty before the first.
        one_thread: True if its results depend on the number of CPU threads.

    Raises:
        ValueError: a class has no prompt; a batch of the set lacks a needed key; or an evaluation
            has no batch of the set.
    """

    needs: tuple[str, ...]
    tag = ""
    suffix = ""
    fixed: frozenset[str] = frozenset()
    _shown: list[ScoredImage]  # of the evaluation that began

    def __init__(
        self,
        context: Context,
        *,
        metrics: Mapping[str, Metric],
        labels: LabelSet | None = None,
        prompted: LabelSet | None = None,
    ) -> None:
        super().__init__(context.benchmark.name)
        self.context = context
        self.protocol = context.protocol(self.measure)
        self.metrics = metrics
        self.labels = labels
        self.length: int | None = len(context.image_set)
        self.shown_ids = spread(self.length, context.evaluation.pictures) if self.tag else ()
        if prompted is not None:
            used_prompts(prompted, protocol=self.protocol)
        self.one_thread = False
        self.scores: dict[str, Any] = {}
        self._known: dict[str, Any] = {}  # of the fixed baselines
        self._prompted = prompted
        self.prompts: Any = None  # the ``ClassEmbeddings`` of this evaluation

    @abstractmethod
    def score(self, model: DenseModel, batch: Batch, truth: Any) -> Sequence[Tensor]:
        """Update the metrics by a batch of the set.  Returns the predictions to draw."""

    @abstractmethod
    def values(self, score: Any) -> dict[str, float]:
        """Return metric keys, without the benchmark's name, and values of the model's score and the
        baselines; nan is left out.
        """

    def entry(self, score: Any) -> Entry:
        """Return the measure's own fields of the record, which ``result`` adds to those of every
        measure.
        """
        return {}

    def arrays(self, score: Any) -> dict[str, Array]:
        """Return each image's contribution to the model's score, by name without the
        benchmark's.
        """
        return {}

    def picture(self, shown: ScoredImage) -> Image.Image:
        """Draw one image; called only if there is a ``tag``."""
        raise NotImplementedError

    def begin(self, model: DenseModel, **embedding: Any) -> None:
        """Prepare an evaluation: embed the classes, since the text tower trains; ``embedding`` is
        passed on to ``class_embeddings``.
        """
        if self._prompted is not None:
            self.prompts = class_embeddings(
                model, self._prompted, protocol=self.protocol, kept=self.context.kept, **embedding
            )

    def gather(self) -> None:
        """Gather state outside the metrics over ranks; every rank calls it at the end of an
        evaluation.
        """

    def truth(self, batch: Batch) -> Any:
        """Return the truth that a batch is scored against, one entry per image.

        Raises:
            ValueError: a needed key or the label set is missing.
        """
        image_set, label_set = self.context.image_set.name, self.context.benchmark.label_set
        for key in self.needs:
            if key not in batch:
                raise ValueError(
                    f"image set {image_set}: its batches have no {key!r}, {self.measure} "
                    "cannot be scored"
                )
        truth = batch[self.needs[0]]
        if not isinstance(truth, Mapping):
            return truth
        if label_set not in truth:
            raise ValueError(
                f"image set {image_set}: its batches have no label set {label_set!r}; they have "
                f"{list(truth)}"
            )
        return truth[label_set]

    def count(
        self,
        predictions: list[Tensor],
        truth: Sequence[Tensor],
        *,
        batch: Batch,
        **baselines: Baseline,
    ) -> list[Tensor]:
        """Count the predictions of a batch, and the baselines whose score is not known.  Returns
        the predictions.
        """
        self.metrics["model"].update(predictions, truth, batch["sample_id"])
        for key, predicted in baselines.items():
            if key not in self._known:
                self.metrics[key].update(predicted, truth, batch["sample_id"])
        return predictions

    def logged(self) -> dict[str, float]:
        """Return ``<benchmark>/<metric>`` and value of the last evaluation, without nan; empty
        before the first.
        """
        values = self.values(self.scores["model"]) if self.scores else {}
        return {f"{self.name}/{key}": value for key, value in values.items() if not np.isnan(value)}

    def per_image(self) -> dict[str, Array]:
        """Return ``<benchmark>/<name>`` to an array in order of image id; empty before the first
        evaluation.
        """
        arrays = self.arrays(self.scores["model"]) if self.scores else {}
        return {f"{self.name}/{key}": array for key, array in arrays.items()}

    def result(self) -> Entry:
        """Return the last evaluation for a JSON record: metrics, protocol, counts, provenance;
        empty before the first.
        """
        if not self.scores:
            return {}
        score, metrics = self.scores["model"], self.logged()
        result: Entry = {
            "set": self.name,
            "image_set": self.context.image_set.name,
            "measure": self.measure,
            "metrics": metrics,
            "metric_keys": [key for key in metrics if "/iou/" not in key],
            "protocol": {**self.protocol.fields(), "digest": self.protocol.digest()},
            "images": score.images,
            **self.context.facts,
        }
        if self.length is not None:
            result["images_in_set"] = self.length
        if self.labels is not None:
            result |= {"names": list(self.labels.names), "label_set": self.labels.digest()}
        if self._prompted is not None:
            result["templates"] = templates_digest(self.protocol)
        return result | self.entry(score)

    def draw(self, trainer: Trainer, *, shown: Sequence[ScoredImage]) -> None:
        """Write pictures to every TensorBoard logger, and as PNG beside the first log; on the first
        rank.
        """
        for position, image in enumerate(shown):
            stem = f"epoch_{trainer.current_epoch:03d}_{image.title}{self.suffix}"
            write_picture(
                trainer,
                picture=self.picture(image),
                tag=f"{self.name}/{self.tag}/{position}",
                stem=stem,
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Silence Lightning's advice to set ``sync_dist``: metrics are reduced already, and
        averaging can change the last bit.
        """
        self._known = {}
        warnings.filterwarnings(
            "ignore", message=rf"It is recommended to use `self\.log\('{self.name}/"
        )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset, and prepare this evaluation."""
        self._shown = []
        self.scores = {}
        for metric in self.metrics.values():
            metric.to(pl_module.device)
            metric.reset()
        model: Any = pl_module.model
        # the weights of a text tower that trains change with each epoch
        changes = (
            trainer.state.fn == TrainerFn.FITTING
            and hasattr(model, "text")
            and any(weight.requires_grad for weight in model.text.parameters())
        )
        cache = prompts_folder(self.context.evaluation.prompt_cache and not changes)
        progress = trainer.is_global_zero and trainer.progress_bar_callback is not None
        self.begin(model, cache=cache, progress=progress)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Any], *_: Any
    ) -> None:
        """Let the measures of a batch share passes from here on."""
        # all scorers are given the same dictionary
        if batch["set"] == self.context.image_set.name and batch.setdefault("by", self) is self:
            batch["sample_id"] = batch["sample_id"].cpu()  # which each of them reads
            share_passes(pl_module.model, True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        *_: Any,
    ) -> None:
        """Score a batch of this set; ignore those of other sets."""
        if batch["set"] != self.context.image_set.name:
            return
        model: Any = pl_module.model
        truth = self.truth(batch)
        predictions = self.score(model, batch, truth)
        for position, index in enumerate(batch["sample_id"].tolist()):
            if index in self.shown_ids:
                shown = ScoredImage.of(batch, position, predictions, truth)
                self._shown.append(shown.copied(Tensor.clone))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log on every rank; draw on the first."""
        if not self.metrics["model"].update_called:
            raise ValueError(
                f"image set {self.context.image_set.name}: none of its images was scored in this "
                "evaluation; add it to the validation sets"
            )
        share_passes(pl_module.model, False)
        self.scores = {
            key: self._known[key] if key in self._known else metric.compute()
            for key, metric in self.metrics.items()
        }
        if not trainer.sanity_checking:  # a sanity check counts only a part of the set
            self._known = {key: score for key, score in self.scores.items() if key in self.fixed}
        for metric in self.metrics.values():
            metric.reset()  # embeddings of a whole set need not stay through training
        self.gather()
        on_cpu = [image.copied(Tensor.cpu) for image in self._shown]
        shown = objects_on_first(on_cpu) if self.shown_ids else []
        self._shown = []
        if trainer.sanity_checking:
            return
        scored = self.scores["model"].images
        if self.length is not None and scored < self.length:
            rank_zero_warn(
                f"{self.name}: {scored} of {self.length} images are scored, because the Trainer "
                "limits validation; the metrics are for this part",
                category=Caveat,
            )
        for key, value in self.logged().items():
            pl_module.log(key, value, prog_bar=key == f"{self.name}/miou")
        if trainer.is_global_zero:
            images = chain.from_iterable(shown)
            self.draw(trainer, shown=sorted(images, key=lambda image: image.sample_id))
