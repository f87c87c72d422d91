"""ContrastiveModule: the training step.  Evaluation is done by callbacks.  B batch, K kept tokens, E shared width."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.encoders.dense_model import DenseModel
from gestalt.loss import ContrastiveTerms, text_ids
from gestalt.micro_batches import embed
from gestalt.model import DualEncoder
from gestalt.subsampling import keep_indices, kept_tokens


class ContrastiveLoss(Protocol):
    """``contrastive_loss`` with its options bound; ``logit_bias`` is given where the model has one."""

    def __call__(
        self, image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, valid: Tensor | None, **logit_bias: Tensor
    ) -> ContrastiveTerms:
        """Return this rank's share of the loss over the valid rows; all are valid if ``valid`` is None."""
        ...


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is NaN or infinite; the message names the step."""


class ScoredModule(LightningModule):
    """Holds a model for Lightning's validation, whose callbacks score it; ours or another's."""

    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.model = model

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks score each image set."""


class ContrastiveModule(LightningModule):
    """Trains a dual encoder on image-text pairs.

    Args:
        model: the dual encoder.
        loss: maps embedded pairs to this rank's share of the loss.
        make_optimizer: maps the model to its optimiser.
        rate_factor: maps the step to a factor in [0, 1] on every group's learning rate.
        keep_share: share of patch tokens that a training image keeps, (0, 1].
        seed: of the token sub-sampling.
        micro_batches: number of parts in which the towers embed a batch.

    Attributes:
        kept: patch tokens kept of all, such as "51/256"; empty before the first step.
        validated_step: step of the last validation; -1 before the first.
        last_loss: of the last step, mean over ranks.
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
        micro_batches: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer = make_optimizer
        self.rate_factor = rate_factor
        self.keep_share = keep_share
        self.seed = seed
        self.micro_batches = micro_batches
        self.kept = ""
        self.validated_step = -1
        self.last_loss = float("nan")
        self._gradient_norm = torch.zeros(())  # of the last step, before clipping

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Return this rank's share of the loss on an ``ImageTextBatch``; the towers read its valid pairs only.

        Raises:
            NonFiniteLoss: on every rank at once, with the step.
        """
        rows = _rows_to_embed(batch["valid"])
        inputs = batch if rows is None else _select(batch, rows)
        keep, total = self._draw_tokens(inputs)
        embeddings = embed(self.model, inputs, keep=keep, parts=self.micro_batches)
        self._check_kept(embeddings.parts, total)
        image, text = (_scatter(vectors, rows, count=len(batch["text"])) for vectors in (embeddings.image, embeddings.text))
        ids = text_ids(batch["text"]).to(text.device)
        valid = None if bool(batch["valid"].all()) else batch["valid"]  # without a mask the loss is faster
        bias = {} if self.model.logit_bias is None else {"logit_bias": self.model.logit_bias}
        terms = self.loss(image, text, logit_scale=self.model.logit_scale, text_id=ids, valid=valid, **bias)
        self._log_step(terms, parts=embeddings.parts, total=total)
        return terms.loss

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks score each image set."""

    def on_validation_epoch_end(self) -> None:
        """Record the step of the weights that were scored."""
        self.validated_step = self.global_step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its learning rate schedule by step."""
        optimizer = self.make_optimizer(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.rate_factor), "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp the logit scale, before a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_logit_scale()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the gradient norm before clipping, of gradients that are averaged over ranks.

        Raises:
            NonFiniteLoss: the norm is NaN or infinite; no parameter has changed yet.
        """
        self._gradient_norm = gradient_norm(_parameters(optimizer), precision=str(self.trainer.precision), stop=self._stop)
        self.log("train/gradient_norm", self._gradient_norm)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by the norm that was just logged, which is not computed twice."""
        if gradient_clip_val is not None and not self._gradient_norm < gradient_clip_val - 1e-6:  # below it clipping multiplies by one
            torch.nn.utils.clip_grads_with_norm_(_parameters(optimizer), gradient_clip_val, self._gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the last loss and token count, so that a run resumed after its final step can report them.

        Raises:
            NonFiniteLoss: a weight is NaN or infinite; no file is written, and the one to be replaced stays.
        """
        self._check_finite(checkpoint["state_dict"])
        checkpoint["gestalt"] = {"last_loss": self.last_loss, "kept": self.kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the last loss and token count."""
        self.last_loss, self.kept = checkpoint["gestalt"]["last_loss"], checkpoint["gestalt"]["kept"]

    def _draw_tokens(self, batch: Mapping[str, Any]) -> tuple[Tensor | None, int]:
        """Return the patch tokens to keep, (B, K) int64 or None for all, and the number of tokens of an image."""
        height, width = self.model.image_tower.grid(*batch["image"].shape[-2:])
        total = height * width
        if self.keep_share == 1:
            return None, total
        kept = kept_tokens(total, self.keep_share)
        return keep_indices(batch["sample_id"], batch["epoch"], seed=self.seed, total=total, kept=kept), total

    def _check_kept(self, parts: int, total: int) -> None:
        """Check that the tower kept the configured share of tokens; print it once."""
        expected = kept_tokens(total, self.keep_share)
        if parts != expected:
            raise RuntimeError(f"image.keep_tokens={self.keep_share} expects {expected}/{total} patch tokens, the tower kept {parts}")
        if not self.kept:
            self.kept = f"{parts}/{total}"
            self.print(f"image tokens: kept {self.kept}")

    def _stop(self, name: str, value: Tensor) -> NoReturn:
        """Raise ``NonFiniteLoss`` with the step and the hyperparameters to change."""
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        raise NonFiniteLoss(
            f"{name} is {value.item()} at step {self.global_step} (learning rate {rate:.3g}, "
            f"logit scale {self.model.logit_scale.exp().item():.3g}); no checkpoint contains it. "
            "Try a lower optimizer.learning_rate, a longer warm-up or trainer.gradient_clip_val"
        )

    def _check_finite(self, weights: Mapping[str, Tensor]) -> None:
        """Check every weight on its device; the same on all ranks, so that all of them stop together."""
        broken = [name for name, weight in weights.items() if weight.is_floating_point() and not torch.isfinite(weight).all()]
        if broken:
            raise NonFiniteLoss(
                f"{len(broken)} of {len(weights)} weights, {broken[0]} first, contain NaN or infinity after step {self.global_step}; "
                "not saved: the last checkpoint is the one before. Try a lower optimizer.learning_rate, a longer warm-up or "
                "trainer.gradient_clip_val"
            )

    def _log_step(self, terms: ContrastiveTerms, *, parts: int, total: int) -> None:
        """Log means over ranks, the logit scale, the learning rate and the token count."""
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
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach())
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.log_dict({"tokens/kept": float(parts), "tokens/share": parts / total})


def gradient_norm(parameters: Iterable[Tensor], *, precision: str, stop: Callable[[str, Tensor], NoReturn]) -> Tensor:
    """Return the norm of all gradients; ``stop`` raises if it is NaN or infinite, except in fp16, whose scaler skips such a step."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if not torch.isfinite(norm) and not precision.startswith("16"):
        stop("gradient norm", norm)
    return norm


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _rows_to_embed(valid: Tensor) -> Tensor | None:
    """Return the indices of valid rows; None to embed all, also if none is valid: DDP needs every parameter in the graph."""
    rows = valid.nonzero().squeeze(1)
    return None if len(rows) in (0, len(valid)) else rows


def _select(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Select rows of the fields that the towers read."""
    tensors = {key: batch[key][rows] for key in ("image", "sample_id", "epoch")}
    return {**tensors, "text": [batch["text"][row] for row in rows.tolist()]}


def _scatter(vectors: Tensor, rows: Tensor | None, *, count: int) -> Tensor:
    """Put vectors at their rows of ``count``, zeros elsewhere, so that every rank gathers as many rows."""
    if rows is None:
        return vectors
    return vectors.new_zeros(count, vectors.shape[1]).index_copy(0, rows, vectors)
