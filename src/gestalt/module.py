"""ContrastiveModule: the training step.  Evaluation is done by callbacks.

B batch size, K kept tokens, E embedding width.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import ModuleDict, ParameterList
from torch.optim import Optimizer

from gestalt.encoders.keys import Image
from gestalt.losses.captions import text_ids
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.matrix import ContrastiveTerms
from gestalt.losses.terms import Term
from gestalt.model import DualEncoder
from gestalt.subsampling import keep_indices, kept_tokens
from gestalt.support.arguments import check_dict, wrong_type
from gestalt.support.devices import send
from gestalt.support.faults import Caveat
from gestalt.training.finite import FirstBadStep, check_weights, is_logging_step
from gestalt.training.micro_batches import Batch, MicroBatches, image_size
from gestalt.training.schedule import PAPER, by_step, clip_in_step, make_optimizer, rate_factor

WARMUP = 0.1
"""Maximum share of a run that the paper's warm-up takes by default."""


class ContrastiveModule(LightningModule):
    """Trains a dual encoder on image-text pairs, by default as in the paper.

    Args:
        model: the dual encoder.
        loss: maps embedded pairs to this rank's share of the loss, as ``contrastive_loss`` with its
            options bound; ``logit_bias`` is given where the model has one.  It measures accuracy
            and duplicates only at the steps that are logged.
        make_optimizer: maps the model and the auxiliary losses, together with the parameters of a
            subclass, to an optimiser.
        rate_factor: maps the step to a multiplier in [0, 1] of every group's learning rate. None:
            the paper's warm-up, for at most a tenth of the Trainer's steps, and half a cosine to 0
            at their end.
        keep_share: share of patch tokens that a training image keeps, (0, 1].  None: the paper's
            0.2 where the image tower can drop tokens, else 1.
        seed: seed of the token sub-sampling.
        micro_batches: number of parts in which the towers embed a batch, one after the other.
        terms: auxiliary losses that are added to the contrastive loss, by name.
        weights: name of an auxiliary loss, or ``pairs`` for the contrastive loss -> its weight; 1
            by default for ``pairs``.
        crops: epoch e keeps the tokens of epoch e mod ``crops``; None for new ones in each epoch.
        config: the resolved configuration from which the model is built, as dicts and lists.
            Checkpoints contain it, so that they can be opened without other files. None for your
            own model.

    Example:
        >>> module = gestalt.ContrastiveModule(model.encoder)
        >>> module.keep_share, module.terms
        (0.2, ModuleDict())

    Attributes:
        token_count: patch tokens kept of all, such as "51/256"; empty before the first step.
        validated_step: step of the last validation; -1 before the first.
        last_loss: mean over ranks, of the last step that was read: the steps that are logged, and
            the last before a validation, a checkpoint or the end of training.
        static_shapes: True where a compiled step embeds bad rows as well, which the loss masks.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        loss: Callable[..., ContrastiveTerms] = contrastive_loss,
        make_optimizer: Callable[[DualEncoder, ModuleDict], Optimizer] = make_optimizer,
        rate_factor: Callable[[int], float] | None = None,
        keep_share: float | None = None,
        seed: int = 0,
        micro_batches: int = 1,
        terms: Mapping[str, Term] | None = None,
        weights: Mapping[str, float] | None = None,
        crops: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.make_optimizer = make_optimizer
        self.rate_factor = rate_factor
        if keep_share is None:
            if not hasattr(model, "image_tower"):
                raise wrong_type("model", model, "a gestalt.DualEncoder")
            keep_share = Image().keep_tokens if model.image_tower.drops_tokens else 1.0
        self.keep_share = keep_share
        self.seed = seed
        self.micro_batches = micro_batches
        self.terms = ModuleDict(check_dict("terms", terms, "a dict from names to terms"))
        self.weights = {
            "pairs": 1.0,
            **check_dict("weights", weights, "a dict from names to numbers"),
        }
        self.crops = crops
        self.config = config
        self.token_count = ""
        self.validated_step = -1
        self.last_loss = float("nan")
        self.static_shapes = False
        # this rank's share of the last loss, and the gradient norm before clipping
        self._loss = torch.tensor(float("nan"))
        self._gradient_norm = torch.zeros(())
        self._first_bad = FirstBadStep()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return this rank's share of the loss on an ``ImageTextBatch``, over its valid pairs.

        Nothing here waits for the device, unless the step is logged or the text encoder is neither
        one of ``MASKED_BY_PAIRS`` nor MPNet nor open_clip's.
        """
        keep, total = self._draw_tokens(batch)
        towers = MicroBatches(
            self.model,
            batch,
            keep=keep,
            parts=self.micro_batches,
            seed=self.seed,
            whole=self.static_shapes,
        )
        captions = self._reads_captions()
        embeddings = towers.embed(dense=bool(self.terms), captions=captions)
        self._check_kept(embeddings.parts, total)
        ids = (
            batch["text_id"]
            if "text_id" in batch
            else send(text_ids(batch["text"]), embeddings.text.device)
        )
        valid = None if batch["valid_count"] == len(batch["text"]) else batch["valid"]
        if captions:
            bias = {} if self.model.logit_bias is None else {"logit_bias": self.model.logit_bias}
            terms = self.loss(
                embeddings.image,
                embeddings.text,
                text_id=ids,
                valid=valid,
                logit_scale=self.model.logit_scale,
                measure=self._is_logged(),
                **bias,
            )
        else:  # DDP needs every parameter in the graph, also those of the aggregation of images
            terms = ContrastiveTerms(0 * embeddings.image.sum(), None, None)
        shares = {"pairs": self.weights["pairs"] * terms.loss}
        if self.terms:
            pairs = towers.pairs(embeddings, text_id=ids, valid=valid)
            shares |= {name: self.weights[name] * term(pairs) for name, term in self.terms.items()}
        loss = torch.stack([*shares.values()]).sum()
        self._loss = loss.detach().float()
        self._log_step(terms, shares)
        return loss

    def _reads_captions(self) -> bool:
        """Return False if no part of the loss reads captions.  A model with a logit bias always
        reads them, because DDP needs the bias in the graph.
        """
        return (
            self.weights["pairs"] != 0
            or self.model.logit_bias is not None
            or any(term.reads_captions for term in self.terms.values())
        )

    def _draw_tokens(self, batch: Batch) -> tuple[Tensor | None, int]:
        """Return the patch tokens to keep, (B, K) int64 or None for all, and the number of patch
        tokens of an image.
        """
        height, width = self.model.image_tower.grid(*image_size(batch))
        total = height * width
        if self.keep_share == 1:
            return None, total
        kept = kept_tokens(total, self.keep_share)
        epoch = batch["epoch"] if self.crops is None else batch["epoch"] % self.crops
        return keep_indices(
            batch["sample_id"], epoch, seed=self.seed, total=total, kept=kept
        ), total

    def _check_kept(self, parts: int, total: int) -> None:
        """Check that the tower kept the configured share of tokens, and print the number once."""
        expected = kept_tokens(total, self.keep_share)
        if parts != expected:
            raise RuntimeError(
                f"image.keep_tokens={self.keep_share} expects {expected}/{total} patch tokens, the "
                f"tower kept {parts}"
            )
        if not self.token_count:
            self.token_count = f"{parts}/{total}"
            self.print(f"image tokens: kept {self.token_count}")

    def _is_logged(self) -> bool:
        """Return True during a step whose numbers are logged."""
        return is_logging_step(self.trainer)

    def _log_step(self, terms: ContrastiveTerms, shares: Mapping[str, Tensor]) -> None:
        """Log means over ranks, the logit scale and the learning rate, in steps that are logged."""
        if not self._is_logged():
            return
        measured = {
            "train/loss": self._loss,
            "train/accuracy": terms.accuracy,
            "train/equal_captions": terms.duplicates,
        }
        if len(shares) > 1:
            measured |= {f"train/loss_{name}": share for name, share in shares.items()}
        values = {
            name: value.detach().float() for name, value in measured.items() if value is not None
        }
        # These are not for the progress bar: Lightning would read their values after each step.
        self.log_dict(values, sync_dist=True)
        self.log("train/logit_scale", self.model.logit_scale.detach().exp())
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach())
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its learning rate schedule by step."""
        if self.rate_factor is None:
            total = self.steps_planned
            if total < 1:
                raise ValueError(
                    "the learning rate's schedule needs an end: give the Trainer max_steps or "
                    "max_epochs, or the module a rate_factor"
                )
            warmup = min(PAPER.warmup_steps, int(WARMUP * total))
            self.rate_factor = partial(
                rate_factor, keys=replace(PAPER, warmup_steps=warmup), total=total
            )
        elif self._trainer and "total" in getattr(self.rate_factor, "keywords", {}):  # of a run
            schedule: Any = self.rate_factor
            self.rate_factor = partial(schedule, planned=self.steps_planned)
        known = {*self.model.parameters(), *self.terms.parameters()}
        own = ParameterList(weight for weight in self.parameters() if weight not in known)
        further = ModuleDict({**self.terms, "module": own}) if len(own) else self.terms
        optimizer = self.make_optimizer(self.model, further)
        return by_step(optimizer, self.rate_factor)

    def on_fit_start(self) -> None:
        """Check the optimiser and the Trainer.

        A fused optimiser with a gradient scaler is refused, because it would clip scaled gradients.
        Warns about parameters that no optimiser has, and about batches that the Trainer
        accumulates.
        """
        precision, fused = self.trainer.precision, self.trainer.optimizers[0].defaults.get("fused")
        if fused and str(precision).startswith("16"):
            raise ValueError(
                f"precision={precision}: a fused optimiser clips gradients that are scaled; set "
                "trainer.precision in the experiment too, or give the module a make_optimizer "
                "whose fused is False"
            )
        trained = {weight for each in self.trainer.optimizers for weight in _parameters(each)}
        left = [
            name
            for name, weight in self.named_parameters()
            if weight.requires_grad and weight not in trained
        ]
        if left:
            rank_zero_warn(
                f"{type(self).__name__}: no optimiser has {', '.join(left)}, which will not be "
                "trained; add them in make_optimizer or configure_optimizers, or freeze them by "
                "requires_grad_(False)",
                category=Caveat,
            )
        counts = [self.trainer.accumulate_grad_batches]
        for scheduler in self._accumulation_schedulers():
            counts += scheduler.scheduling.values()
        if (count := max(counts)) > 1:
            rank_zero_warn(
                f"The Trainer accumulates {count} batches, which contrasts each image-text pair "
                f"with the pairs of its own batch only, 1/{count} of those of a step; leave out "
                "its accumulate_grad_batches or GradientAccumulationScheduler, and set "
                f"trainer.accumulate_grad_batches={count} in the experiment, which contrasts all",
                category=Caveat,
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Record the loss, and the gradient norm before clipping, of gradients averaged over
        ranks.  The norm is logged in steps that are logged.

        Raises:
            NonFiniteLoss: raised on every rank at once.  Either the loss or norm of this step is
                NaN or infinite, and no parameter has changed yet; or that of a step since the last
                reading is, and the steps after it are lost.
        """
        gradients = [
            parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None
        ]
        self._gradient_norm = torch.nn.utils.get_total_norm(gradients)
        self._first_bad.note(
            self.trainer,
            loss=self._loss,
            gradient_norm=self._gradient_norm,
            logit_scale=self.model.logit_scale,
        )
        if self._is_logged():
            self.read_steps()
            self.log("train/gradient_norm", self._gradient_norm)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients with the recorded norm, so that it is not computed twice.

        A fused optimiser clips gradients while it reads them. With your own Trainer, gradients can
        also be clipped by value.
        """
        if gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
        elif (
            gradient_clip_val is not None
            and gradient_clip_val > 0
            and not clip_in_step(optimizer, norm=self._gradient_norm, largest=gradient_clip_val)
        ):
            torch.nn.utils.clip_grads_with_norm_(
                _parameters(optimizer), gradient_clip_val, self._gradient_norm
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and then clamp the logit scale before a checkpoint can be written."""
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_logit_scale()
        for term in self.terms.values():
            term.after_step()  # type: ignore[operator]

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks score each image set."""

    def on_validation_epoch_end(self) -> None:
        """Record the step of the weights that were scored."""
        self.validated_step = self.global_step

    def on_validation_start(self) -> None:
        """Read the recorded steps before the weights are scored."""
        self.read_steps()

    def on_train_end(self) -> None:
        """Read the last recorded steps."""
        self.read_steps()

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the loss of the last step, and drop stale metrics if ``max_time`` stops the run
        between two logged steps.
        """
        if self.trainer.should_stop and self.trainer._results is not None and not self._is_logged():
            self.trainer._results.clear()
            self.read_steps()
            self.log("train/loss", self.last_loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add fields to a checkpoint: the last loss and token count, which a run that is resumed
        after its final step reports; the number of steps of the whole run; and the origin of its
        initial weights.

        Raises:
            NonFiniteLoss: a step since the last reading, or a weight, is NaN or infinite.  No file
                is written, and the existing checkpoint is kept.
        """
        self.read_steps()
        check_weights(checkpoint["state_dict"], step=self.global_step)
        checkpoint["gestalt"] = {
            "last_loss": self.last_loss,
            "kept": self.token_count,
            "steps_planned": self.steps_planned,
            "schedule": getattr(self.rate_factor, "keywords", {}).get("total"),
            "image_origin": asdict(self.model.image_origin),
            "text_origin": asdict(self.model.text_origin),
            "config": self.config,
        }

    @property
    def steps_planned(self) -> int:
        """The number of steps of the whole run, according to its Trainer; 0 for a run without an
        end.
        """
        planned = self.trainer.estimated_stepping_batches
        if not math.isfinite(planned):
            return 0
        for scheduler in self._accumulation_schedulers():
            # Lightning's estimate assumes that all epochs accumulate as many batches as the current
            # one.
            epochs, batches = self.trainer.max_epochs or -1, self.trainer.num_training_batches
            if epochs > 0 and math.isfinite(batches):
                counts = map(scheduler.get_accumulate_grad_batches, range(epochs))
                planned = sum(math.ceil(batches / count) for count in counts)
                if self.trainer.max_steps != -1:
                    planned = min(planned, self.trainer.max_steps)
        return max(0, int(planned))

    def _accumulation_schedulers(self) -> list[GradientAccumulationScheduler]:
        """Return the Trainer's callbacks that change the number of accumulated batches by epoch."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [each for each in callbacks if isinstance(each, GradientAccumulationScheduler)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the last loss and token count."""
        saved = checkpoint["gestalt"]
        self.last_loss, self.token_count = saved["last_loss"], saved["kept"]

    def read_steps(self) -> None:
        """Wait for the device, and read the steps since the last reading.  All ranks must call this
        together.

        Raises:
            NonFiniteLoss: a loss or gradient norm is NaN or infinite; raised on every rank at
                once.  The message names the first such step.
        """
        if not self._first_bad.unread:
            return
        factor = self.rate_factor
        assert factor is not None
        peak: float = self.optimizers().param_groups[0]["initial_lr"]  # type: ignore[union-attr]
        self._first_bad.check(self.trainer, lambda step: peak * factor(step))
        self.last_loss = float(self.trainer.strategy.reduce(self._loss.clone(), reduce_op="mean"))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
