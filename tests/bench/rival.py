"""Time training against open_clip's own loop: the same towers, weights, batches and fused AdamW, one step of either after the other.

Each loop is the whole of what its program runs between two batches.  Ours is Lightning's with the callbacks of every run; a batch is as our
loader gives it, uint8 pixels and captions, so that normalising, hashing and tokenising are in its time.  open_clip's is
``open_clip_train.train.train_one_epoch``; a batch is as its loader gives it, normalised floats and token ids, which are cut to the length
to which ours are padded: neither side computes with more padding than the other.
"""

import logging
import math
import statistics
import tempfile
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from gpu import made_batch
from lightning.pytorch.loggers import TensorBoardLogger
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gestalt.building.compiling import compile_training
from gestalt.building.model import build_model
from gestalt.building.training import build_bad_samples, build_module
from gestalt.callbacks.checkpoints import SaveOnSignal
from gestalt.callbacks.clock import Clock
from gestalt.callbacks.speed import Speed
from gestalt.callbacks.trainer import keywords_of, make_trainer
from gestalt.commands.process import keep_freed_memory, quiet
from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.model import DualEncoder

CLIP = ("image.aggregation=cls", "text.aggregation=cls", "projection.order=after", "loss.directions=mean", "image.subsampling=false")
TEXT = ("text.family=open_clip", "text.init=random", "image.init=random", "image.stem=patch", "evaluation.benchmarks=[]")
SETTINGS = {  # name: side in pixels, pairs a step, what is set
    "ViT of 3 x 128, patch 8, 64 px": (
        *(64, 64),
        ("image.patch_size=8", "image.width=128", "image.depth=3", "image.heads=4"),
        ("text.width=128", "text.heads=4", "text.layers=2", "projection.width=128"),
    ),
    "ViT-S/16, 224 px": (
        *(224, 8),
        ("image.backbone=vit_small_patch16_224",),
        ("text.width=384", "text.heads=6", "text.layers=6", "projection.width=384"),
    ),
}
WARM_UP = 3
EVERY = 10  # steps from one logged point to the next, on both sides


class Turns:
    """Two loops in turns, in a thread each: a loop gives its turn away when it asks for its next batch.

    Attributes:
        seconds: of each step, by the clock.
        busy: of each step, of the loop's thread on a core, which other work on the machine does not lengthen.
    """

    def __init__(self) -> None:
        self._turns = {name: threading.Semaphore(0) for name in ("ours", "theirs")}
        self.seconds: dict[str, list[float]] = {name: [] for name in self._turns}
        self.busy: dict[str, list[float]] = {name: [] for name in self._turns}

    def batches(self, name: str, batch: Any, count: int) -> Iterator[Any]:
        """Yield the batch so many times, and note the time from each to the request of the next."""
        other = next(key for key in self._turns if key != name)
        for _ in range(count):
            self._turns[name].acquire()
            begin, worked = time.perf_counter(), time.thread_time()
            yield batch
            self.seconds[name].append(time.perf_counter() - begin)
            self.busy[name].append(time.thread_time() - worked)
            self._turns[other].release()

    def give(self, name: str) -> None:
        """Give a turn: the first, or that of a loop that has ended without asking for a further batch."""
        self._turns[name].release()


class InTurns(Dataset[Any]):
    """The batches of one loop as a data set with a length."""

    def __init__(self, turns: Turns, batch: Any, count: int) -> None:
        self.count = count
        self._batches = turns.batches("ours", batch, count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        """Return the next batch."""
        return next(self._batches)


def experiment(name: str, *, compiled: str = "none") -> Experiment:
    """The configuration of a setting."""
    side, batch, image, text = SETTINGS[name]
    words = [*CLIP, *TEXT, *image, *text, f"image.eval_size={side}", f"image.train_size={side}", f"data.batch_size={batch}"]
    words += ["trainer.precision=32-true", "trainer.enable_progress_bar=false", f"trainer.log_every_n_steps={EVERY}", "optimizer.warmup_steps=0"]
    return load("clip_baseline", scale=None, overrides=[*words, f"trainer.compile={compiled}"])


def counterpart(config: Experiment, model: DualEncoder, *, side: int, length: int) -> nn.Module:
    """open_clip's CLIP with the towers and weights of ours, for captions of ``length`` tokens."""
    image, text = config.image, config.text
    sizes = {"patch_size": image.patch_size, "embed_dim": image.width, "depth": image.depth, "num_heads": image.heads}
    changed = {key: value for key, value in sizes.items() if value is not None}
    trunk = timm.create_model(image.backbone, img_size=side, num_classes=0, global_pool="token", **changed)
    layers = {"context_length": length, "width": text.width, "heads": text.heads, "layers": text.layers}
    clip = open_clip.CLIP(config.projection.width, {"layers": 1, "width": 64, "image_size": side}, layers, output_dict=True)
    projection: Any = nn.Linear(trunk.num_features, config.projection.width, bias=False)
    clip.visual = nn.Sequential(trunk, projection)
    ours = model.state_dict()
    trunk.load_state_dict({key.removeprefix("image.tower.trunk."): ours[key] for key in ours if key.startswith("image.tower.trunk.")})
    projection.weight.data.copy_(ours["image.projection.linear.weight"])
    words = {key.removeprefix("text.tower.model."): value for key, value in ours.items() if key.startswith("text.tower.model.")}
    words["positional_embedding"] = words["positional_embedding"][:length]
    clip.load_state_dict({**clip.state_dict(), **{key: value for key, value in words.items() if key != "attn_mask"}})
    clip.text_projection.data.copy_(ours["text.projection.linear.weight"].T)
    clip.logit_scale.data.copy_(ours["logit_scale"])
    return clip


def their_optimizer(clip: nn.Module, config: Experiment) -> torch.optim.Optimizer:
    """AdamW as open_clip_train makes it, fused."""
    optimizer = config.optimizer
    plain = [value for value in clip.parameters() if value.ndim < 2]
    decaying = [value for value in clip.parameters() if value.ndim >= 2]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decaying, "weight_decay": optimizer.weight_decay}]
    return torch.optim.AdamW(groups, lr=optimizer.learning_rate, betas=optimizer.betas, eps=optimizer.eps, fused=True)


def their_loop(clip: nn.Module, config: Experiment, batches: Iterator[tuple[Tensor, Tensor]], *, count: int, device: torch.device) -> None:
    """One epoch of open_clip's loop."""
    optimizer, loader = their_optimizer(clip, config), _Loader(batches, count=count, samples=count * config.data.batch_size)

    def schedule(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * step / count))

    precision = "amp_bf16" if config.trainer.precision == "bf16-mixed" else "fp32"
    arguments = Namespace(device=str(device), precision=precision, distill=False, accum_freq=1, skip_scheduler=False, horovod=False, rank=0)
    arguments.grad_clip_norm, arguments.log_every_n_steps = config.trainer.gradient_clip_val, EVERY
    arguments.batch_size, arguments.world_size, arguments.wandb, arguments.local_rank, arguments.log_local = config.data.batch_size, 1, False, 0, 0
    train_one_epoch(clip, {"train": _Data(loader)}, ClipLoss(), 0, optimizer, None, schedule, None, arguments)


class _Loader:
    """Batches with the two numbers that open_clip's loop asks of a loader."""

    def __init__(self, batches: Iterator[Any], *, count: int, samples: int) -> None:
        self.batches, self.num_batches, self.num_samples = batches, count, samples

    def __iter__(self) -> Iterator[Any]:
        return self.batches


class _Data:
    """A data set as open_clip's loop takes it."""

    def __init__(self, loader: _Loader) -> None:
        self.dataloader = loader

    def set_epoch(self, epoch: int) -> None:
        """Do nothing."""


def compared(name: str, *, steps: int, compiled: str = "none") -> dict[str, Any]:
    """Time so many steps of both in turns, on the CPU.  Returns the medians in seconds, their ratio, and each side's first loss."""
    quiet()
    keep_freed_memory()
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*|.*does not have many workers.*")
    logging.disable(logging.WARNING)
    config, side, pairs = experiment(name, compiled=compiled), *SETTINGS[name][:2]
    model = build_model(config)
    count, batch = WARM_UP + steps, whole_batch(pairs, side=side)
    ids, _ = model.text_tower.pad(batch["text"])
    pixels = model.image_tower.normalised(batch["image"])
    clip = counterpart(config, model, side=side, length=ids.shape[1])
    with torch.no_grad():
        theirs = float(ClipLoss()(**clip(pixels, ids)))
    module = build_module(config, model, total_steps=count)
    compile_training(module, compiled)
    if compiled != "none":
        clip.compile(dynamic=False)
    turns = Turns()
    other = threading.Thread(
        target=their_loop, args=(clip, config, turns.batches("theirs", (pixels, ids), count)), kwargs={"count": count, "device": torch.device("cpu")}, daemon=True
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            Path(folder),
            rank_timeout=60,
            callbacks=[build_bad_samples(config), Clock(time.monotonic()), Speed(), SaveOnSignal()],
            **{**keywords_of(config.trainer), "accelerator": "cpu", "devices": 1, "max_steps": count, "max_epochs": -1},
            logger=TensorBoardLogger(folder, name="", version="bench", default_hp_metric=False),
            enable_checkpointing=False,
            limit_val_batches=0,
        )
        other.start()
        turns.give("ours")
        trainer.fit(module, DataLoader(InTurns(turns, batch, count), batch_size=None))  # type: ignore[arg-type]
        turns.give("theirs")
        other.join()
    medians = {key: statistics.median(values[WARM_UP:]) for key, values in turns.seconds.items()}
    ratios = {"ratio": ratio_of(turns.seconds), "busy_ratio": ratio_of(turns.busy)}
    return {"setting": name, "compile": compiled, "batch": pairs, "steps": steps, "seconds": medians, **ratios, "their_first_loss": theirs}


def ratio_of(taken: dict[str, list[float]]) -> float:
    """The median over pairs of steps of our time as a share of theirs."""
    pairs = zip(taken["ours"][WARM_UP:], taken["theirs"][WARM_UP:], strict=False)  # ours ends without asking for one more batch
    return statistics.median(ours / theirs for ours, theirs in pairs)


def whole_batch(count: int, *, side: int) -> dict[str, Any]:
    """A batch with every field of our loader's."""
    good = {"valid": torch.ones(count, dtype=torch.bool), "valid_count": count, "reason": torch.full((count,), -1), "place": [""] * count}
    return {**made_batch(count, side=side), **good}
