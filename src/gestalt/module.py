"""ContrastiveModule: the training step.  Evaluation is done by callbacks.  B batch, K kept tokens, E shared width."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import ModuleDict
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gestalt.callbacks.reading import FirstBadStep, NonFiniteLoss, check_weights, is_read
from gestalt.loss import ContrastiveLoss, ContrastiveTerms, text_ids
from gestalt.micro_batches import embed, embed_text, encode_masked, image_size
from gestalt.model import DualEncoder
from gestalt.schedule import clipped_in_step
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.devices import send
from gestalt.terms import Pairs, Term
from gestalt.valid_rows import rows_to_embed, scatter, select


class ContrastiveModule(LightningModule):
    """Trains a dual encoder on image-text pairs.

    Args:
        model: the dual encoder.
        loss: maps embedded pairs to this rank's share of the loss. One with a parameter ``measured`` measures accuracy and duplicates only
            at the steps that are logged.
        make_optimizer: maps the model, and the terms of the loss, to their optimiser.
        rate_factor: maps the step to a factor in [0, 1] on every group's learning rate.
        keep_share: share of patch tokens that a training image keeps, (0, 1].
        seed: seed of the token sub-sampling.
        micro_batches: number of parts in which the towers embed a batch.
        terms: what is added to the loss of pairs, by name.
        weights: name of a term -> its factor.
        crops: epoch e keeps the tokens of epoch e mod ``crops``; None for new ones in each epoch.

    Attributes:
        kept: patch tokens kept of all, such as "51/256"; empty before the first step.
        validated_step: step of the last validation; -1 before the first.
        last_loss: mean over ranks, of the last step that was read: the steps that are logged, and the last before a validation, a
            checkpoint or the end of training.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        loss: ContrastiveLoss,
        make_optimizer: Callable[[DualEncoder, ModuleDict], Optimizer],
        rate_factor: Callable[[int], float],
        keep_share: float,
        seed: int,
        micro_batches: int = 1,
        terms: Mapping[str, Term] | None = None,
        weights: Mapping[str, float] | None = None,
        crops: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._measures_if_asked = "measured" in inspect.signature(loss).parameters
        self.make_optimizer = make_optimizer
        self.rate_factor = rate_factor
        self.keep_share = keep_share
        self.seed = seed
        self.micro_batches = micro_batches
        self.terms = ModuleDict(dict(terms or {}))
        self.weights = dict(weights or {})
        self.crops = crops
        self.kept = ""
        self.validated_step = -1
        self.last_loss = float("nan")
        self._loss = torch.tensor(float("nan"))  # of the last step, this rank's share
        self._gradient_norm = torch.zeros(())  # of the last step, before clipping
        self._first_bad = FirstBadStep()
        self.static_shapes = False  # True where a compiled step embeds bad rows as well, which the loss masks

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> Tensor:
        """Return this rank's share of the loss on an ``ImageTextBatch``; the towers read its valid pairs only.

        Nothing here waits for the device, if every pair is valid and the step is not logged.
        """
        rows = None if self.static_shapes else rows_to_embed(batch["valid"], count=batch["valid_count"])
        inputs = batch if rows is None else select(batch, rows)
        keep, total = self._draw_tokens(inputs)
        embeddings = embed(self.model, inputs, keep=keep, parts=self.micro_batches, dense=bool(self.terms))
        self._check_kept(embeddings.parts, total)
        image, text = (scatter(vectors, rows, count=len(batch["text"])) for vectors in (embeddings.image, embeddings.text))
        ids = batch["text_id"] if "text_id" in batch else send(text_ids(batch["text"]), text.device)
        valid = None if batch["valid_count"] == len(batch["text"]) else batch["valid"]
        options: dict[str, Any] = {} if self.model.logit_bias is None else {"logit_bias": self.model.logit_bias}
        if self._measures_if_asked:
            options["measured"] = self._is_logged()
        terms = self.loss(image, text, logit_scale=self.model.logit_scale, text_id=ids, valid=valid, **options)
        shares = {"pairs": terms.loss}
        if embeddings.patches is not None:
            patches = scatter(embeddings.patches, rows, count=len(batch["text"]))
            pairs = Pairs(
                *(image, text, patches, self.model.logit_scale, ids, valid, batch),
                embed_text=partial(embed_text, self.model, parts=self.micro_batches),
                encode_text=self.model.text_tower if self.model.text_tower.frozen else None,
                encode_masked=partial(encode_masked, self.model, inputs, rows, keep=keep, seed=self.seed, parts=self.micro_batches),
            )
            shares |= {name: self.weights[name] * term(pairs) for name, term in self.terms.items()}
        loss = torch.stack([*shares.values()]).sum() if len(shares) > 1 else terms.loss
        self._loss = loss.detach().float()
        self._log_step(terms, shares, parts=embeddings.parts, total=total)
        return loss

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks score each image set."""

    def on_validation_start(self) -> None:
        """Read the last steps before their weights are scored."""
        self.read_steps()

    def on_validation_epoch_end(self) -> None:
        """Record the step of the weights that were scored."""
        self.validated_step = self.global_step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its learning rate schedule by step."""
        optimizer = self.make_optimizer(self.model, self.terms)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.rate_factor), "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp the logit scale, before a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_logit_scale()
        for term in self.terms.values():
            term.after_step()  # type: ignore[operator]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Note the loss, and the gradient norm before clipping, of gradients averaged over ranks; read and log them at logged steps.

        Raises:
            NonFiniteLoss: on every rank at once: this step's is NaN or infinite, and no parameter has changed yet; or that of a step since
                the last reading, and what came after is lost.
        """
        gradients = [parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None]
        self._gradient_norm = torch.nn.utils.get_total_norm(gradients)
        self._first_bad.note(self.trainer, loss=self._loss, gradient_norm=self._gradient_norm, logit_scale=self.model.logit_scale)
        if is_read(self.trainer):
            self.read_steps()
            self.log("train/gradient_norm", self._gradient_norm)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by the norm that was just noted, which is not computed twice; a fused optimiser clips them as it reads them."""
        if gradient_clip_val is not None and not clipped_in_step(optimizer, norm=self._gradient_norm, largest=gradient_clip_val):
            torch.nn.utils.clip_grads_with_norm_(_parameters(optimizer), gradient_clip_val, self._gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the last loss and token count, which a run resumed after its final step reports, and the number of steps of the whole run.

        Raises:
            NonFiniteLoss: a step since the last reading, or a weight, is NaN or infinite; no file is written, and the one to be replaced
                stays.
        """
        self.read_steps()
        check_weights(checkpoint["state_dict"], step=self.global_step)
        checkpoint["gestalt"] = {"last_loss": self.last_loss, "kept": self.kept, "steps_planned": self.trainer.max_steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the last loss and token count."""
        self.last_loss, self.kept = checkpoint["gestalt"]["last_loss"], checkpoint["gestalt"]["kept"]

    def _draw_tokens(self, batch: Mapping[str, Any]) -> tuple[Tensor | None, int]:
        """Return the patch tokens to keep, (B, K) int64 or None for all, and the number of tokens of an image."""
        height, width = self.model.image_tower.grid(*image_size(batch))
        total = height * width
        if self.keep_share == 1:
            return None, total
        kept = kept_tokens(total, self.keep_share)
        epoch = batch["epoch"] if self.crops is None else batch["epoch"] % self.crops
        return keep_indices(batch["sample_id"], epoch, seed=self.seed, total=total, kept=kept), total

    def _check_kept(self, parts: int, total: int) -> None:
        """Check that the tower kept the configured share of tokens; print it once."""
        expected = kept_tokens(total, self.keep_share)
        if parts != expected:
            raise RuntimeError(f"image.keep_tokens={self.keep_share} expects {expected}/{total} patch tokens, the tower kept {parts}")
        if not self.kept:
            self.kept = f"{parts}/{total}"
            self.print(f"image tokens: kept {self.kept}")

    def read_steps(self) -> None:
        """Wait for the device and read the steps since the last reading; all ranks call this together.

        Raises:
            NonFiniteLoss: on every rank at once: a loss or gradient norm is NaN or infinite. The message names the first step.
        """
        if not self._first_bad.unread:
            return
        bad = self._first_bad.read(self.trainer)
        if bad is not None:
            rate = self.optimizers().param_groups[0]["initial_lr"] * self.rate_factor(bad.step)  # type: ignore[union-attr]
            raise NonFiniteLoss(bad.message(rate))
        self.last_loss = float(self.trainer.strategy.reduce(self._loss.clone(), reduce_op="mean"))

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the loss of an unread step where ``max_time`` ends the run, in place of the numbers of an earlier step."""
        if self.trainer.should_stop and self.trainer._results is not None and not is_read(self.trainer):
            self.trainer._results.clear()
            self.read_steps()
            self.log("train/loss", self.last_loss)

    def on_train_end(self) -> None:
        """Read the last steps."""
        self.read_steps()

    def _is_logged(self) -> bool:
        """Return True within a step whose numbers are logged."""
        return is_read(self.trainer)

    def _log_step(self, terms: ContrastiveTerms, shares: Mapping[str, Tensor], *, parts: int, total: int) -> None:
        """Log means over ranks, the logit scale, the learning rate and the token count, at the steps that are logged."""
        if not self._is_logged():
            return
        measured = {"train/loss": self._loss, "train/accuracy": terms.accuracy, "train/equal_captions": terms.duplicates}
        if len(shares) > 1:
            measured |= {f"train/loss_{name}": share for name, share in shares.items()}
        values = {name: value.detach().float() for name, value in measured.items() if value is not None}
        means = self.trainer.strategy.reduce(torch.stack([*values.values()]), reduce_op="mean")
        # not for the progress bar, of whose metrics Lightning reads the latest value after each step
        self.log_dict(dict(zip(values, means, strict=True)))
        self.log("train/logit_scale", self.model.logit_scale.detach().exp())
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach())
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.log_dict({"tokens/kept": float(parts), "tokens/share": parts / total})


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
