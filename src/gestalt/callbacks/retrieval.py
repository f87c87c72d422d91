"""Retrieval: recall of one captioned image set at each evaluation."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from gestalt.evaluation.protocols import ImageProtocol
from gestalt.evaluation.retrieval import RetrievalScore, embed_captions, embed_images
from gestalt.metrics import RetrievalRecall


class Retrieval(Callback):
    """Ranks every caption for every image of a set and the reverse, whatever the number of ranks, and logs the recalls.

    Args:
        name: of the image set, as its batches say it.
        protocol: how images are resized; captions are embedded as they are written.

    Raises:
        ValueError: the set has no captions; or, at the end of an evaluation, no batch of it came.
    """

    def __init__(self, name: str, *, protocol: ImageProtocol) -> None:
        super().__init__()
        self.name = name
        self.protocol = protocol
        self.metric = RetrievalRecall()
        self.score: RetrievalScore | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from asking for ``sync_dist``: every rank ranks the same gathered set."""
        warnings.filterwarnings("ignore", message=rf"It is recommended to use `self\.log\('{self.name}/")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last evaluation."""
        self.score = None
        self.metric.to(pl_module.device)
        self.metric.reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Embed a batch of this set, and let other sets pass."""
        if batch["set"] != self.name:
            return
        if "captions" not in batch:
            raise ValueError(f"image set {self.name}: its batches have no 'captions', retrieval cannot be scored")
        model: Any = pl_module.model
        image = embed_images(model, batch["image"], protocol=self.protocol)
        text = embed_captions(model, batch["captions"], like=image)
        self.metric.update(image, text, sample_id=batch["sample_id"], captions=batch["captions"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the embeddings, rank, log on every rank."""
        if not self.metric.update_called:
            raise ValueError(f"image set {self.name}: this evaluation brought none of its images; is it among the validation sets?")
        self.score = self.metric.compute()
        self.metric.reset()
        if trainer.sanity_checking:
            return
        for key, value in self.logged().items():
            pl_module.log(key, value, on_step=False, on_epoch=True, sync_dist=False, batch_size=1)

    def logged(self) -> dict[str, float]:
        """Metric keys and values of the last evaluation; what is nan is left out."""
        recalls = self.score.recalls if self.score else {}
        return {f"{self.name}/{key}": value for key, value in recalls.items() if not np.isnan(value)}

    def result(self) -> dict[str, Any]:
        """The last evaluation for a JSON record: metrics, integer hits, provenance.  Empty before the first."""
        if self.score is None:
            return {}
        return {
            "set": self.name,
            "images": self.score.images,
            "captions": self.score.captions,
            "metrics": self.logged(),
            "hits": dict(self.score.hits),
            "protocol": {**dataclasses.asdict(self.protocol), "digest": self.protocol.digest()},
        }
