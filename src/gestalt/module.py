"""ContrastiveModule: one training step.  No metrics here: callbacks measure.  B batch, H W pixels."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.loss import ContrastiveTerms, text_ids
from gestalt.model import DualEncoder
from gestalt.subsampling import keep_indices, kept_tokens


class ContrastiveLoss(Protocol):
    """``contrastive_loss`` with its choices made."""

    def __call__(self, image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, valid: Tensor) -> ContrastiveTerms:
        """This rank's part of the loss over the valid rows."""
        ...


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is no longer a number; the message names the step."""


def _stepped(optimizer: Optimizer) -> list[Tensor]:
    """The parameters that an optimiser steps."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class ContrastiveModule(LightningModule):
    """Trains a dual encoder on image-text pairs.

    Args:
        model: the dual encoder.
        loss: pairs to this rank's part of the loss.
        make_optimizer: model to optimiser.
        rate_factor: step to the factor in [0, 1] on every group's learning rate.
        keep_share: share of patch tokens that a training image keeps, (0, 1].
        seed: of the token masks.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        loss: ContrastiveLoss,
        make_optimizer: Callable[[DualEncoder], Optimizer],
        rate_factor: Callable[[int], float],
        keep_share: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer = make_optimizer
        self.rate_factor = rate_factor
        self.keep_share = keep_share
        self.seed = seed
        self.kept = ""  # "51/256" after the first step
        self.validated_step = -1  # the step that the last validation saw
        self.last_loss = float("nan")  # of the last step, all ranks together
        self._norm = torch.zeros(())  # of the last step's gradient, not clipped

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """One step on an ``ImageTextBatch``: this rank's part of the loss over its valid pairs.  Towers never see the others.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        rows = _rows_to_embed(batch["valid"])
        read = batch if rows is None else _only(batch, rows)
        keep, total = self._keep(read)
        embeddings = self.model(read["image"], read["text"], keep=keep)
        self._check_kept(embeddings.parts, total)
        image, text = (_in_place(side, rows, count=len(batch["text"])) for side in (embeddings.image, embeddings.text))
        ids = text_ids(batch["text"]).to(text.device)
        terms = self.loss(image, text, logit_scale=self.model.logit_scale, text_id=ids, valid=batch["valid"])
        self._log_step(terms, parts=embeddings.parts, total=total)
        return terms.loss

    def validation_step(self, *_: Any) -> None:
        """Nothing: callbacks score each image set."""

    def on_validation_epoch_end(self) -> None:
        """Remember which weights were scored."""
        self.validated_step = self.global_step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, and its schedule by step."""
        optimizer = self.make_optimizer(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.rate_factor), "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp the logit scale, before anything is saved."""
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_logit_scale()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the gradient's norm before it is clipped; the gradients are already averaged over ranks.

        Raises:
            NonFiniteLoss: the norm is not a number; nothing has been stepped yet.
        """
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in _stepped(optimizer) if parameter.grad is not None])
        if not torch.isfinite(norm) and not str(self.trainer.precision).startswith("16"):  # fp16's scaler skips such a step itself
            self._stop("gradient norm", norm)
        self.log("train/gradient_norm", norm)
        self._norm = norm

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by the norm that was just logged: a second look at every gradient would cost as much as the first."""
        if gradient_clip_val is not None and not self._norm < gradient_clip_val - 1e-6:  # below it clipping multiplies by one
            torch.nn.utils.clip_grads_with_norm_(_stepped(optimizer), gradient_clip_val, self._norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what a run that was stopped after its last step would otherwise not know."""
        checkpoint["gestalt"] = {"last_loss": self.last_loss, "kept": self.kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Recall it."""
        self.last_loss, self.kept = checkpoint["gestalt"]["last_loss"], checkpoint["gestalt"]["kept"]

    def _keep(self, batch: Mapping[str, Any]) -> tuple[Tensor | None, int]:
        height, width = self.model.image_tower.grid(*batch["image"].shape[-2:])
        total = height * width
        if self.keep_share == 1:
            return None, total
        kept = kept_tokens(total, self.keep_share)
        return keep_indices(batch["sample_id"], batch["epoch"], seed=self.seed, total=total, kept=kept), total

    def _check_kept(self, parts: int, total: int) -> None:
        expected = kept_tokens(total, self.keep_share)
        if parts != expected:
            raise RuntimeError(f"image.keep_tokens={self.keep_share} asks for {expected}/{total} patch tokens, the tower kept {parts}")
        if not self.kept:
            self.kept = f"{parts}/{total}"
            self.print(f"image tokens: kept {self.kept}")

    def _stop(self, what: str, value: Tensor) -> NoReturn:
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        raise NonFiniteLoss(
            f"{what} is {value.item()} at step {self.global_step} (learning rate {rate:.3g}, "
            f"logit scale {self.model.logit_scale.exp().item():.3g}); no checkpoint holds it. "
            "Try a lower optimizer.learning_rate, a longer warm-up or trainer.gradient_clip_val"
        )

    def _log_step(self, terms: ContrastiveTerms, *, parts: int, total: int) -> None:
        values = torch.stack([terms.loss.detach().float(), terms.accuracy.float(), terms.duplicates.float()])
        loss, accuracy, duplicates = self.trainer.strategy.reduce(values, reduce_op="mean")
        scale = self.model.logit_scale.detach().exp()
        if not torch.isfinite(loss):
            self._stop("loss", loss)
        self.last_loss = loss.item()
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/accuracy", accuracy)
        self.log("train/equal_captions", duplicates)
        self.log("train/logit_scale", scale)
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.log_dict({"tokens/kept": float(parts), "tokens/share": parts / total})


def _rows_to_embed(valid: Tensor) -> Tensor | None:
    """The valid rows of a batch; None for all of them, and where none is valid: DDP wants every weight in the graph, at gradient zero."""
    rows = valid.nonzero().squeeze(1)
    return None if len(rows) in (0, len(valid)) else rows


def _only(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Those rows of what towers read."""
    tensors = {key: batch[key][rows] for key in ("image", "sample_id", "epoch")}
    return {**tensors, "text": [batch["text"][row] for row in rows.tolist()]}


def _in_place(vectors: Tensor, rows: Tensor | None, *, count: int) -> Tensor:
    """Vectors at their rows among ``count``, zeros at the others: ranks exchange as many rows each."""
    if rows is None:
        return vectors
    return vectors.new_zeros(count, vectors.shape[1]).index_copy(0, rows, vectors)
