"""One training step in parts, to time the demo and the steps on a GPU."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gestalt.building.model import build_model
from gestalt.building.training import build_module
from gestalt.config.schema import Experiment
from gestalt.losses.contrastive import text_ids


class TrainingStep:
    """Takes a batch, embeds both sides, and steps the optimiser, in the precision of the
    configuration.

    Args:
        config: of the model, its loss and its optimiser.
        batches: ``ImageTextBatch`` after ``ImageTextBatch``, all pairs valid.
        device: where the step runs.
    """

    def __init__(
        self, config: Experiment, batches: Iterator[Mapping[str, Any]], *, device: torch.device
    ) -> None:
        self.config = config
        self.batches = batches
        self.device = device
        self.model = build_model(config).to(device)
        self.module = build_module(config, self.model, total_steps=1000)
        self.optimizer = self.module.make_optimizer(self.model, self.module.terms)
        self.batch: dict[str, Any] = {}
        self.vectors: dict[str, Tensor] = {}
        self.value = torch.zeros(())

    def data(self) -> None:
        """Take the next batch."""
        self.batch = dict(next(self.batches))
        for key in ("image", "sample_id", "epoch"):
            self.batch[key] = self.batch[key].to(self.device)

    def image_forward(self) -> None:
        """Embed the images."""
        keep, _ = self.module._draw_tokens(self.batch)
        with self._precision():
            self.vectors["image"] = self.model.embed_image(self.batch["image"], keep)

    def text_forward(self) -> None:
        """Tokenise and embed the captions."""
        with self._precision():
            self.vectors["text"] = self.model.embed_text(self.batch["text"])

    def loss(self) -> None:
        """Compare all pairs."""
        ids = text_ids(self.batch["text"]).to(self.device)
        vectors = self.vectors["image"], self.vectors["text"]
        valid = torch.ones_like(ids, dtype=torch.bool)
        self.value = self.module.loss(
            *vectors, logit_scale=self.model.logit_scale, text_id=ids, valid=valid
        ).loss

    def backward(self) -> None:
        """Compute the gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.value.backward()

    def optimiser(self) -> None:
        """Clip the gradients and step."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def after_data(self) -> None:
        """Run all parts but ``data``."""
        for part in (
            self.image_forward,
            self.text_forward,
            self.loss,
            self.backward,
            self.optimiser,
        ):
            part()

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.trainer.precision == "bf16-mixed"
        )
