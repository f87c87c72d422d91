"""ZeroShot: a Lightning callback that scores benchmarks at each validation of any module."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import ModuleList

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import Scorer
from gestalt.measures.context import Entry
from gestalt.measures.grouping.protocol import TokensProtocol
from gestalt.models.opening import load_scoring
from gestalt.models.zoo.python import Function, FunctionModel, check_functions
from gestalt.results.run_record import scorers_of
from gestalt.runs.evaluation import build_evaluation
from gestalt.support.devices import keep_random_state
from gestalt.support.names import nearest
from gestalt.support.ranks import broadcast


class ZeroShot(Callback):
    """Score benchmarks at the start of each validation, and log the metrics through the module,
    named ``<benchmark>/<metric>``.  They equal those of ``gestalt eval``.

    It reads the benchmarks with its own data loaders, each rank a share of them. The loaders, steps
    and metrics of the module are not affected, and torch's random state is restored. Lightning's
    sanity check is skipped. Because it scores in ``on_validation_epoch_start``, ``ModelCheckpoint``
    and ``EarlyStopping`` see the metrics of the same validation. A callback that swaps weights in
    this hook, such as ``EMAWeightAveraging``, takes effect if it is listed before this one.

    Args:
        benchmarks: a name, or a list of names.
        more: further names; ``ZeroShot("a", "b")`` is ``ZeroShot(benchmarks=["a", "b"])``.
        model: a ``DenseModel``; a mapping with three functions, which run on the module's device:
            ``locations`` maps images (B, 3, H, W) float32 in [0, 1] to vectors of patches (B, E, h,
            w), ``pooled`` maps them to (B, E), and ``texts`` maps a list of K texts to (K, E); none
            need be normalised. Or None, for the module itself or its attribute ``model``. A string
            instead of a function is the name of a method of the module. Grouping and matching use
            what ``locations`` returns.
        protocol: the protocol of segmentation; by default that of each benchmark.
        benchmark_root: folder with the files of the benchmarks.
        size: size of the images in pixels, for protocols without a size.
        evaluation: further keys of ``evaluation.`` in the configuration, such as ``limit``;
            ``pictures`` is 0 by default.

    Example:
        >>> zero_shot = gestalt.ZeroShot("scenes", size=32, limit=8)
        >>> zero_shot.config.evaluation.limit
        8

    Raises:
        ValueError: no benchmark, an unknown name, key or value; at the start of the run, no model,
            a method that the module does not have, or a benchmark that another ``ZeroShot`` of the
            trainer scores.
    """

    def __init__(
        self,
        benchmarks: str | Sequence[str] = (),
        *more: str,
        model: DenseModel | Mapping[str, str | Function] | None = None,
        protocol: str | None = None,
        benchmark_root: str | Path | None = None,
        size: int = 224,
        **evaluation: Any,
    ) -> None:
        names = [*([benchmarks] if isinstance(benchmarks, str) else benchmarks), *more]
        keys = {"pictures": 0, "benchmarks": names, "protocol": protocol, **evaluation}
        values = {f"evaluation.{key}": value for key, value in keys.items()}
        values |= {"benchmark_root": benchmark_root, "image.eval_size": size}
        words = [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
        self.config = load_scoring(words)
        if not self.config.evaluation.benchmarks:
            raise ValueError("ZeroShot: no benchmark; name one or more, such as pascal_voc")
        if isinstance(model, Mapping):
            check_functions(model)
        self._given = model
        self._callbacks: list[Callback] = []

    def results(self) -> list[Entry]:
        """Return the entries of the results file for the last validation, one for each measure of
        each benchmark, with their ``metrics``; the same on each rank.
        """
        return [found for one in scorers_of(self._callbacks) if (found := one.result())]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the benchmarks, before the first step."""
        names = [
            name
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(callback, ZeroShot)
            for name in callback.config.evaluation.benchmarks
        ]
        names += {one.name for one in scorers_of(trainer.callbacks)}  # type: ignore[attr-defined]
        if len(set(names)) < len(names):
            raise ValueError(
                f"ZeroShot: a benchmark of {', '.join(names)} is named by two callbacks, and their "
                "metrics would share their names; name it in one"
            )
        model = self._model(pl_module)
        # stands for the module before the callbacks
        scored: Any = SimpleNamespace(model=model, device=pl_module.device, log=pl_module.log)
        self._data, self._callbacks = build_evaluation(self.config, has_text=model.has_text)
        self._data.trainer, self._scored = trainer, scored
        for callback in self._callbacks:
            if (
                isinstance(model, FunctionModel)  # which has no others
                and isinstance(callback, Scorer)
                and isinstance(callback.protocol, TokensProtocol)
            ):
                callback.protocol = replace(callback.protocol, features="projected")
            callback.setup(trainer, scored, "validate")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the Trainer will run a validation."""
        if not trainer.enable_validation:
            raise ValueError(
                "ZeroShot: the Trainer does not validate; give fit a loader for validation, the "
                "module a validation_step, and limit_val_batches above 0"
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score and log; Lightning has put the module into eval mode and computes no gradients."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn == "validate":
            self.on_fit_start(trainer, pl_module)
        scored = self._scored
        model = scored.model.to(scored.device)
        training = [part for part in model.modules() if part.training]
        model.eval()
        # Running statistics differ between ranks, and a checkpoint stores those of the first.
        buffers = [*ModuleList([pl_module, model]).buffers()]
        before = [buffer.clone() for buffer in buffers]
        broadcast(buffers)

        def call(hook: str, *arguments: Any) -> None:
            for callback in self._callbacks:
                getattr(callback, hook)(trainer, scored, *arguments)

        try:
            with keep_random_state():  # a data loader draws a seed
                call("on_validation_start")
                call("on_validation_epoch_start")
                for loader in self._data.val_dataloader():
                    for batch in loader:
                        moved = move_data_to_device(batch, scored.device)
                        call("on_validation_batch_start", moved, 0)
                        call("on_validation_batch_end", None, moved, 0)
                call("on_validation_epoch_end")
        finally:
            call("on_validation_end")
            model.share_passes(False)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            for part in training:
                part.training = True

    def _model(self, pl_module: LightningModule) -> DenseModel:
        """Return the model to score."""
        if isinstance(self._given, Mapping):
            functions = {
                key: find_method(pl_module, given, key=key) if isinstance(given, str) else given
                for key, given in self._given.items()
            }
            return FunctionModel(functions, size=self.config.image.eval_size)
        found = [pl_module, getattr(pl_module, "model", None)]
        for model in found if self._given is None else [self._given]:
            if isinstance(model, DenseModel):
                return model
        raise ValueError(
            f"ZeroShot: neither model= nor {type(pl_module).__name__} nor its attribute model is a "
            "DenseModel; give model= one, or the functions locations, pooled and texts"
        )


def find_method(module: LightningModule, name: str, *, key: str) -> Function:
    """Return a method of a module that its class defines, by its name.

    Raises:
        ValueError: the class has no such method.  The message contains ``key``, which names the
            method.
    """
    names = {
        method
        for kind in type(module).__mro__
        if kind not in LightningModule.__mro__
        for method, value in vars(kind).items()
        if callable(value) and not method.startswith("_")
    }
    if name not in names:
        raise ValueError(
            f"ZeroShot: model: {key}={name}: {type(module).__name__} has no such method; "
            f"{nearest(name, sorted(names))}"
        )
    method: Function = getattr(module, name)
    return method
