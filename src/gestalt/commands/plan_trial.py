"""The trial of a plan: the parts of a run on one device, and a few real steps of them.  Nothing is written."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.nn import functional
from torch.utils.data import DataLoader

from gestalt.building.evaluation import build_evaluation
from gestalt.building.features import connect_loader
from gestalt.building.model import build_model
from gestalt.building.source import build_source, steps
from gestalt.building.terms import nouns_of
from gestalt.building.training import build_data, build_module
from gestalt.config.schema import Experiment, refuse
from gestalt.losses.matrix import BLOCK
from gestalt.module import ContrastiveModule
from gestalt.planning.probes import Step, StepProbe, ValidationProbe
from gestalt.planning.reckoning import Held, Memory, Validation, fitted
from gestalt.training.trainer import keywords_of, make_trainer

STEPS = 20
"""Steps that are timed, at most."""

SECONDS = 40.0
"""Seconds after which no further step is timed; three are always taken."""

DRAWN, AT_ONCE = 80, 16
"""Most pairs that are loaded to time a loading process, and number of pairs read at a time."""

DRAW_SECONDS = 15.0
"""Seconds after which no further pair is loaded."""

SMALL = 64
"""Pairs, at most, of the smaller batch that memory is measured with; the larger has twice as many."""

BUILT_IN = ("contrastive", "sigmoid")
"""The built-in losses, which compare a block of pairs at a time."""

VALIDATED = 3
"""Batches of each validation set that are scored."""


@dataclass(frozen=True)
class Trial:
    """The parts of a run that a plan tries, on one device.

    Attributes:
        config: configuration of the run, with a random init where the run's own is not made yet.
        module: the model with its loss and optimiser.
        data: batches of one device, and the validation sets.
        scorers: callbacks of the validation.
        folder: a temporary folder.
        epoch: steps of an epoch.
        total: steps of the run.
    """

    config: Experiment
    module: ContrastiveModule
    data: Any
    scorers: Sequence[Callback]
    folder: Path
    epoch: int
    total: int

    def trainer(self, callbacks: Sequence[Callback], **ends: Any) -> Any:
        """Return a trainer of one device that steps as the run does and writes nothing."""
        once = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": -1, "max_time": None}
        quietly = {"profiler": None, "enable_progress_bar": False, "limit_train_batches": None, "num_sanity_val_steps": 0}
        nowhere = {"logger": False, "enable_checkpointing": False, "fast_dev_run": False, "limit_val_batches": 0}
        keywords = {**keywords_of(self.config.trainer), **once, **quietly, **nowhere, **ends}
        decay = self.config.optimizer.ema
        averaging = [] if decay is None or "max_steps" not in ends else [EMAWeightAveraging(decay=decay)]
        return make_trainer(self.folder, rank_timeout=self.config.rank_timeout, callbacks=[*averaging, *callbacks], **keywords)


def trial_of(config: Experiment, *, batch: int, unmade: bool, folder: Path) -> Trial:
    """Build the parts of a run, with batches of one device; ``unmade`` takes a random init in place of one to be pretrained."""
    tried = replace(config, image=replace(config.image, init="random", inits={}, weights=None)) if unmade else config
    tried = replace(tried, evaluation=replace(tried.evaluation, prompt_cache=False))  # the cache is a folder of the user's
    source = build_source(tried)
    epoch, total = steps(config, source)
    validation, scorers = build_evaluation(tried)
    nouns = nouns_of(tried, source)
    module = build_module(tried, build_model(tried), total_steps=total, nouns=nouns)
    module.kept = "planned"  # keeps the steps from printing their token count
    whole = replace(tried.trainer, accumulate_grad_batches=1)  # the loader hands over whole steps; the module keeps its parts
    data = build_data(replace(tried, data=replace(tried.data, batch_size=batch), trainer=whole), source, validation=validation)
    connect_loader(tried, module.model, data, total_steps=total, nouns=nouns)
    return Trial(tried, module, data, scorers=scorers, folder=folder, epoch=epoch, total=total)


def drawn(data: Any, *, batch: int) -> tuple[float, dict[str, Any]]:
    """Load pairs a few at a time, as a loading process does.  Returns the images a second by the median, and the pairs as a batch.

    The first ones open files and fill caches, and are not timed.
    """
    loader = data.train_dataloader()
    keys = [key for _, some in zip(range(-(-DRAWN // batch)), loader.batch_sampler, strict=False) for key in some][:DRAWN]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loading process
    parts, rates, end = [], [], time.monotonic() + DRAW_SECONDS
    for start in range(0, len(keys), AT_ONCE):
        begun = time.monotonic()
        parts.append(loader.dataset.__getitems__(keys[start : start + AT_ONCE]))
        rates.append(len(parts[-1]["text"]) / max(time.monotonic() - begun, 1e-9))
        if time.monotonic() > end:
            break
    torch.set_num_threads(threads)
    return statistics.median(rates[1:] or rates), joined(parts)


PADDED = ("token_ids", "token_mask", "text_features", "text_mask", "text_summary")
"""Keys of a batch whose width depends on its longest caption."""

NEGATIVES = ("negative_ids", "negative_mask")
"""Keys whose width depends on the longest negative caption."""


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the pairs of several batches as one."""
    whole: dict[str, Any] = {}
    for key, first in parts[0].items():
        if key in PADDED:  # to another length in each part; the steps tokenise these pairs themselves
            continue
        if key == "side":
            whole[key] = first
            continue
        values = [part[key] for part in parts]
        if key in NEGATIVES:
            longest = max(rows.shape[1] for rows in values)
            values = [functional.pad(rows, (0, longest - rows.shape[1])) for rows in values]  # masked
        whole[key] = torch.cat(values) if isinstance(first, torch.Tensor) else sum(values, [] if isinstance(first, list) else 0)
    return whole


def repeated(made: Mapping[str, Any], *, count: int, times: int) -> list[dict[str, Any]]:
    """Return the same batch several times, its pairs repeated or cut to a number."""
    rows = [number % len(made["text"]) for number in range(count)]
    index = torch.tensor(rows)
    batch: dict[str, Any] = {key: values[index] for key, values in made.items() if isinstance(values, torch.Tensor)}
    batch |= {key: [values[row] for row in rows] for key, values in made.items() if isinstance(values, list)}
    batch |= {key: made[key] for key in ("side",) if key in made}
    return [{**batch, "valid_count": int(batch["valid"].sum())}] * times


def counted_steps(trial: Trial, made: Mapping[str, Any], *, batch: int) -> tuple[dict[int, Step], dict[str, int], torch.device]:
    """Take steps at two batch sizes, the smaller first; smaller ones where these run out of memory.

    Returns:
        Batch size -> a step, part -> bytes that every step keeps, and the device.

    Raises:
        ConfigError: not even two pairs fit.
    """
    small = SMALL
    while small:
        try:
            return _counted(trial, made, sizes=sorted({max(1, min(batch // 4, small)), max(2, min(batch // 2, 2 * small))}))
        except torch.OutOfMemoryError:
            small = min(small, max(1, batch // 4)) // 2
    refuse(
        "data.batch_size", trial.config.data.batch_size, "not even two pairs fit the memory of a device; choose a smaller model or image"
    )


def _counted(trial: Trial, made: Mapping[str, Any], *, sizes: Sequence[int]) -> tuple[dict[int, Step], dict[str, int], torch.device]:
    batches = [batch for size in sizes for batch in repeated(made, count=size, times=2)]
    probe = StepProbe(counts=True, seconds=SECONDS)
    trainer = trial.trainer([probe], max_steps=len(batches))
    trainer.fit(trial.module, train_dataloaders=_loader(batches))
    taken = {step.batch: step for step in probe.steps}  # the last of each size: the first ones allocate what stays
    kept = {part: size for part, size in probe.kept.items() if size}
    return taken, kept if trial.config.optimizer.ema is None else {**kept, "averages": kept["weights"]}, trainer.strategy.root_device


def held(config: Experiment) -> Held:
    """Return the similarities that the loss holds at one time: a block for a built-in loss, all for one of an installed package."""
    return Held(BLOCK, config.loss.chunk) if config.loss.name in BUILT_IN else Held()


def memory_of(counted: Mapping[int, Step], timed: Sequence[Step], *, kept: Mapping[str, int], ranks: int, compared: Held) -> Memory:
    """Fit the memory of a step to those that were counted and those that were timed, if any.

    Several ranks need no more: their gradients are views of DDP's buffers.
    """
    activations = fitted({size: step.kept["activations"] for size, step in counted.items()})
    pair = counted[max(counted)].kept["loss"] / max(counted) ** 2
    peaks = {step.batch: step.peak - pair * compared.at(step.batch, texts=step.batch) for step in (*counted.values(), *timed)}
    peak = fitted(peaks, least=activations.each)
    return Memory(dict(kept), activations, peak, pair, ranks, compared)


def _loader(batches: Any) -> DataLoader[Any]:
    """Return a loader of batches that are in memory."""
    return DataLoader(batches, batch_size=None)


def timed_steps(trial: Trial, made: Mapping[str, Any], *, batch: int, fitting: int) -> tuple[list[Step], int]:
    """Time real steps with the number of pairs that should fit, and halve it, with pairs loaded before, as long as memory runs out.

    Returns:
        The steps, and the smallest batch that ran out of memory, 0 if none did.
    """
    refused = 0
    while fitting:
        try:
            return stepped(trial, trial.data if fitting == batch else repeated(made, count=fitting, times=STEPS + 2)), refused
        except torch.OutOfMemoryError:
            refused, fitting = fitting, fitting // 2
    return [], refused


def stepped(trial: Trial, data: Any) -> list[Step]:
    """Take real steps; return those after the first two, which warm up, if there are more."""
    probe = StepProbe(counts=False, seconds=SECONDS)
    most = STEPS + 2 if trial.config.data.features is None else min(STEPS + 2, trial.total)  # a cache has the captions of the run alone
    trainer = trial.trainer([probe], max_steps=most)
    given = {"train_dataloaders": _loader(data)} if isinstance(data, list) else {"datamodule": data}
    trainer.fit(trial.module, **given)
    return probe.steps[2:] or probe.steps[-1:]


def validated(trial: Trial, *, ranks: int) -> Validation:
    """Score a few batches of each set."""
    probe = ValidationProbe()
    trainer = trial.trainer([*trial.scorers, probe], limit_val_batches=VALIDATED)
    begun = time.monotonic()
    trainer.validate(trial.module, datamodule=trial.data, verbose=False)
    fixed = time.monotonic() - begun - probe.in_batches()
    counts = [-(-len(loader) // ranks) for loader in trial.data.val_dataloader()]
    return Validation(max(0.0, fixed), tuple(counts), tuple(probe.each()))
