"""Time training against open_clip's own loop: the same towers, weights, batches and fused AdamW,
one step of either after the other.

Each loop is the whole of what its program runs between two batches.  Ours is Lightning's with the
callbacks of every run; a batch is as our loader gives it, uint8 pixels, captions, their hashes and
token ids, so that normalising is in its time.  open_clip's is
``open_clip_train.train.train_one_epoch``; a batch is as its loader gives it, normalised floats and
token ids, which are cut to the length to which ours are padded: neither side computes with more
padding than the other.  Both come from pinned memory to a GPU.
"""

import logging
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from clock import DEVICE, ratio
from gpu import made_batch
from lightning.pytorch.loggers import TensorBoardLogger
from open_clip_loop import EVERY, counterpart, their_loop
from torch.utils.data import DataLoader, Dataset
from turns import Turns

from gestalt.config.loading import load
from gestalt.config.schema import Experiment
from gestalt.model import DualEncoder
from gestalt.models.start import build_model
from gestalt.runs.process import quiet
from gestalt.runs.run import compile_training
from gestalt.runs.training import build_bad_samples, caption_reader
from gestalt.training.checkpoints import SaveOnSignal
from gestalt.training.progress import Clock, Speed
from gestalt.training.trainer import keywords_of, make_trainer
from tests.gestalt.at_step import build_module

CLIP = (
    "image.aggregation=cls text.aggregation=cls projection.order=after loss.directions=mean "
    "image.subsampling=false text.family=open_clip text.init=random image.init=random "
    "image.stem=patch evaluation.benchmarks=[]"
)
# name: side in pixels, pairs a step, what is set
SETTINGS = {
    "ViT of 3 x 128, patch 8, 64 px": (
        64,
        64,
        "image.patch_size=8 image.width=128 image.depth=3 image.heads=4 text.width=128 "
        "text.heads=4 text.layers=2 projection.width=128",
    ),
    "ViT-S/16, 224 px": (
        224,
        8,
        "image.backbone=vit_small_patch16_224 text.width=384 text.heads=6 text.layers=6 "
        "projection.width=384",
    ),
    "ViT-B/16, 224 px": (
        224,
        256,
        "image.backbone=vit_base_patch16_224 text.width=512 text.heads=8 text.layers=12 "
        "projection.width=512",
    ),
}
ON = {"cpu": ("ViT of 3 x 128, patch 8, 64 px", "ViT-S/16, 224 px"), "cuda": ("ViT-B/16, 224 px",)}
WARM_UP, TURNS = (
    3,
    {"ViT of 3 x 128, patch 8, 64 px": 30, "ViT-S/16, 224 px": 10, "ViT-B/16, 224 px": 10},
)
TARGET = 1.0  # our time as a share of theirs


class InTurns(Dataset[Any]):
    """The batches of one loop as a data set with a length."""

    def __init__(self, batches: Iterator[Any], count: int) -> None:
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        """Return the next batch."""
        return next(self.batches)


def experiment(name: str, *, device: torch.device, compiled: str = "none") -> Experiment:
    """The configuration of a setting."""
    side, batch, sizes = SETTINGS[name]
    precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    words = (
        f"{CLIP} {sizes} image.eval_size={side} image.train_size={side} data.batch_size={batch} "
        f"trainer.accelerator={device.type} trainer.precision={precision} "
        f"trainer.enable_progress_bar=false trainer.log_every_n_steps={EVERY} "
        f"optimizer.warmup_steps=0 trainer.compile={compiled}"
    )
    return load("clip_baseline", scale=None, overrides=words.split())


def compared(
    name: str, *, turns: int, device: torch.device, compiled: str = "none"
) -> dict[str, Any]:
    """Time so many turns of both.  Returns the medians in seconds a step and the median of the
    ratios.
    """
    quiet()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*|.*does not have many workers.*")
    config, (side, pairs) = experiment(name, compiled=compiled, device=device), SETTINGS[name][:2]
    model = build_model(config)
    batch = whole_batch(pairs, side=side, model=model)
    ids, _ = model.text_tower.pad(batch["text"])
    pixels = model.image_tower.normalise(batch["image"])
    clip = counterpart(config, model, side=side, length=ids.shape[1]).to(device)
    if compiled != "none":
        clip.compile(dynamic=False)
    order = Turns(block=1 if device.type == "cpu" else 10)
    count = (WARM_UP + turns) * order.block
    given = (pixels, ids) if device.type == "cpu" else (pixels.pin_memory(), ids.pin_memory())
    their_batches = order.batches("theirs", given, WARM_UP + turns)
    keywords = {"count": count, "device": device}
    other = threading.Thread(
        target=their_loop, args=(clip, config, their_batches), kwargs=keywords, daemon=True
    )
    other.start()
    order.give("ours")
    our_loop(config, model, InTurns(order.batches("ours", batch, WARM_UP + turns), count))
    order.give("theirs")
    other.join()
    medians = {key: statistics.median(values[WARM_UP:]) for key, values in order.seconds.items()}
    return {
        "setting": name,
        "compile": compiled,
        "batch": pairs,
        **{f"{key} ms": 1000 * value for key, value in medians.items()},
        # ours ends without asking for one more batch
        "ratio": ratio(order.seconds["ours"][WARM_UP:], order.seconds["theirs"][WARM_UP:]),
    }


def our_loop(config: Experiment, model: DualEncoder, data: InTurns) -> None:
    """Our training, with the callbacks that every run has at its steps."""
    module = build_module(config, model, total_steps=data.count)
    compile_training(module, config.trainer.compile)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            Path(folder),
            rank_timeout=60,
            callbacks=[
                build_bad_samples(config.data),
                Clock(time.monotonic()),
                Speed(),
                SaveOnSignal(),
            ],
            **{
                **keywords_of(config.trainer),
                "devices": 1,
                "max_steps": data.count,
                "max_epochs": -1,
            },
            logger=TensorBoardLogger(folder, name="", version="bench", default_hp_metric=False),
            enable_checkpointing=False,
            limit_val_batches=0,
        )
        trainer.fit(module, DataLoader(data, batch_size=None, pin_memory=torch.cuda.is_available()))  # type: ignore[arg-type]


def whole_batch(count: int, *, side: int, model: DualEncoder) -> dict[str, Any]:
    """A batch with every field of our loader's, whose processes hash and tokenise the captions."""
    batch = made_batch(count, side=side)
    return {**batch, **caption_reader(model)(batch["text"])}


def measure() -> dict[str, Any]:
    """Compare on this machine's device; on a GPU also with both sides compiled."""
    ways = ("none",) if DEVICE.type == "cpu" else ("none", "towers", "step")
    rows = [
        compared(name, turns=TURNS[name], device=DEVICE, compiled=compiled)
        for name in ON[DEVICE.type]
        for compiled in ways
    ]
    return {
        "title": "a training step against open_clip's own loop, in turns, fused AdamW on both "
        f"sides, on {DEVICE.type}",
        "rows": rows,
        "targets": {f"at most {TARGET} of its time": all(row["ratio"] <= TARGET for row in rows)},
    }
