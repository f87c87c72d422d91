"""Types of batches, the batches of pretraining, and the loading of training batches of this rank,
from the trainer's step on.  B batch, in training over all ranks; V crops of an image, H W pixels.
Images are uint8: the image tower normalises.
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NotRequired, SupportsIndex, TypedDict

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gestalt.data_modules.order import EndlessOrder, ShuffledBatches, check_order
from gestalt.data_modules.pairs import Key, Source
from gestalt.data_modules.pixels.bad_samples import GOOD, REASONS, BadSample
from gestalt.data_modules.pixels.views import View, draw_crop
from gestalt.support.arguments import check_type
from gestalt.support.process import end_with, keep_freed_memory


class ImageTextBatch(TypedDict):
    """Image-text pairs of a training step."""

    image: NotRequired[Tensor]
    """(B, 3, H, W) uint8; absent where ``features`` are read in its place."""
    features: NotRequired[Tensor]
    """(B, ...), the output of the frozen part of the image tower; zeros for a bad pair."""
    side: NotRequired[int]
    """Side of the images of ``features``, pixels."""
    text: list[str]
    """B captions."""
    column: list[str]
    """B columns of a table that the captions were drawn from; empty without one."""
    sample_id: Tensor
    """(B,) int64, the index of the pair in its source."""
    epoch: Tensor
    """(B,) int64, the epoch in which the pair was drawn; with the sample id it determines every
    random draw.
    """
    valid: Tensor
    """(B,) bool; False if the pair cannot be read: its image is black, its text is empty, and it
    must not be counted.
    """
    valid_count: int
    """Number of valid pairs, counted on the host, so that a step need not read ``valid`` from the
    device.
    """
    reason: list[int]
    """B indices into ``bad_samples.REASONS`` of bad pairs; ``GOOD`` for the others."""
    place: list[str]
    """B locations of bad pairs for messages, shard and key; empty for the others."""
    text_id: NotRequired[Tensor]
    """(B,) int64, a hash of each caption, if the loader was given a reader of captions."""
    token_ids: NotRequired[Tensor]
    """(B, N) int64, the captions as the text tower reads them; a bad pair has those of another
    caption.
    """
    token_mask: NotRequired[Tensor]
    """(B, N) bool, False on padding."""


class MultiCropBatch(TypedDict):
    """Crops of images of a pretraining step.  V crops of each image, numbered.

    B is the number of readable images, A the number of all images.  B may differ between ranks: the
    gradient is then the mean of the ranks' means.
    """

    crops: Tensor
    """(V, B, 3, H, W) uint8."""
    places: Tensor
    """(V, B, 4) float32, left, top, right and bottom of each crop as shares of the image; left >
    right in a mirrored crop.
    """
    sample_id: Tensor
    """(B,) int64, the index of the image in its source."""
    epoch: Tensor
    """(B,) int64, the epoch in which the crops were drawn."""
    valid: Tensor
    """(A,) bool; False if the image cannot be read and so has no row in the other fields."""
    reason: list[int]
    """A indices into ``bad_samples.REASONS`` of unreadable images; ``GOOD`` for the others."""
    place: list[str]
    """A locations of unreadable images for messages, shard and key; empty for the others."""
    label: NotRequired[Tensor]
    """(B,) int64, index into the source's classes, if it has labels."""


class ImageSetBatch(TypedDict):
    """Samples of a validation set, at native size."""

    set: str
    """The image set's name."""
    image: list[Tensor]
    """B images, (3, H, W) uint8, each of its own size."""
    sample_id: Tensor
    """(B,) int64, the index in the set; ``PADDING`` for padding."""
    name: list[str]
    """B names for messages: file stem or index."""
    labels: NotRequired[dict[str, list[Tensor]]]
    """Name of a label set -> B class maps, (H, W), typed by the number of classes, never resized;
    ``ignored_value`` is not scored.
    """
    prediction: NotRequired[list[Tensor]]
    """B maps of classes or groups that another system predicted."""
    instance: NotRequired[list[Tensor]]
    """B instance maps, (H, W) uint8: 0 background, 1..n objects, ``IGNORE`` void."""
    class_label: NotRequired[Tensor]
    """(B,) int64, index into the only label set of a classification set; ``PADDING`` for
    padding.
    """
    place: NotRequired[Tensor]
    """(B,) int64, the class that usually occurs with the image's background; ``PADDING`` for
    padding.  Waterbirds' group is
    2 class_label + place."""
    captions: NotRequired[list[list[str]]]
    """B lists of captions."""


def validity(bad: list[BadSample | None]) -> dict[str, Any]:
    """Return the fields ``valid``, ``reason`` and ``place`` of a batch; None for a good sample."""
    return {
        "valid": torch.tensor([why is None for why in bad]),
        "reason": [GOOD if why is None else REASONS.index(why.reason) for why in bad],
        "place": ["" if why is None else f"{why.where}: {why.key}" for why in bad],
    }


@dataclass
class MultiCropDataset(Dataset[MultiCropBatch]):
    """Batches of crops of a source's images, each drawn by its view, by (epoch, index), so that
    workers need no state.
    """

    source: Source
    views: tuple[View, ...]
    seed: int

    def __getitem__(self, keys: Sequence[Key]) -> MultiCropBatch:
        """Return the crops of the readable images as drawn in those epochs, one crop number after
        the other.

        Raises:
            ValueError: no image is readable.
        """
        bad: list[BadSample | None] = []
        crops, places, readable = [], [], []
        for epoch, index in keys:
            try:
                pixels = self.source.image(index, epoch)  # its captions do not matter
            except BadSample as reason:
                bad.append(reason)
                continue
            bad.append(None)
            readable.append((epoch, index))
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            drawn = (
                draw_crop(image, view, seed=self.seed, epoch=epoch, index=index, crop=number)
                for number, view in enumerate(self.views)
            )
            pixels_of, places_of = zip(*drawn, strict=True)
            crops.append(torch.stack(pixels_of))
            places.append(places_of)
        fields = validity(bad)
        if not readable:
            raise ValueError(
                f"none of the {len(keys)} images of a batch can be read; the first is "
                f"{fields['place'][0]}; "
                "check the source with `gestalt data inspect`"
            )
        batch: Any = {
            "crops": torch.stack(crops, dim=1),
            "places": torch.tensor(places).transpose(0, 1).contiguous(),
            "sample_id": torch.tensor([index for _, index in readable]),
            "epoch": torch.tensor([epoch for epoch, _ in readable]),
            **fields,
        }
        if self.source.classes:
            batch["label"] = torch.tensor([self.source.label(index) for _, index in readable])
        return batch


GRACE = 20.0
"""Seconds after SIGTERM in which the trainer may finish its step and save, before a loading process
ends.
"""


class TrainLoader(DataLoader[Any]):
    """A loader that Lightning can resume in the middle of an epoch.

    Its state identifies the stream of samples, without the position: the sampler takes the step
    from the trainer.

    Attributes:
        stream: length and digest of the source, batch size over all ranks, seed, window and steps
            an epoch.
    """

    stream: dict[str, int | str]

    def state_dict(self) -> dict[str, Any]:
        """Return the stream."""
        return dict(self.stream)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the checkpoint was reading the same stream.

        Raises:
            ValueError: other samples, batch size, seed, window or number of steps an epoch.
        """
        changed = [
            f"{key} was {state.get(key)}, is {value}"
            for key, value in self.stream.items()
            if state.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"the data differ from the checkpoint's: {'; '.join(changed)}; restore them, or "
                "start anew without resume"
            )


@dataclass(eq=False, repr=False)
class TrainingData(LightningDataModule):
    """Base of the training data modules: shuffled batches of a source.

    Attributes:
        source: the samples.
        dataset: maps a list of (epoch, index) to a batch of the source's samples.
        batch_size: B.
        workers: number of loading processes of each rank; 0 loads in the training process.
        seed: seed of the order of samples.
        window: number of shards that are shuffled together.
    """

    source: Source
    dataset: Dataset[Any]
    _: KW_ONLY
    batch_size: int
    workers: int = 0
    seed: int = 0
    window: int = 1

    def __post_init__(self) -> None:
        check_type("batch_size", self.batch_size, SupportsIndex, "a whole number")
        super().__init__()

    def train_dataloader(self) -> TrainLoader:
        """Return this rank's batches from the trainer's step on, within its ``limit_train_batches``
        an epoch; a step takes ``accumulate_grad_batches`` of the trainer, fewer at an epoch's end.
        Without a trainer, all batches of one rank from the first on.

        Raises:
            ValueError: the trainer has ``overfit_batches``, the source has no sample or fewer than
                a batch, or ranks cannot share a batch equally.
        """
        # a pool's threads do not survive the fork of a loading process
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # without it a batch's pages are new each time, and cost as much as a third of the decoding
        # at 224 px
        keep_freed_memory()
        trainer: Any = self.trainer
        # a number, or a share in [0, 1]
        limit = None if trainer is None else trainer.limit_train_batches
        check_order(trainer)
        steps = whole = len(self.source) // self.batch_size
        if limit and whole:
            steps = max(1, min(limit, whole) if isinstance(limit, int) else int(limit * whole))

        def batches_taken() -> int:
            """Return the number of batches that the trainer's steps took."""
            if trainer is None:
                return 0
            each = trainer.accumulate_grad_batches
            epochs, rest = divmod(trainer.global_step, math.ceil(steps / each))
            return epochs * steps + rest * each

        sampler = ShuffledBatches(
            EndlessOrder(
                self.source.blocks(),
                seed=self.seed,
                window=self.window,
                in_sequence=self.source.in_sequence or self.source.orders_itself,
            ),
            batch_size=self.batch_size,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            step=batches_taken,
            steps_per_epoch=steps,
        )
        # PyTorch limits a worker to one thread, so a fork of a threaded parent cannot wait for
        # threads that it lacks; workers persist for the whole run, because they cache cut-outs and
        # open shards
        loader = TrainLoader(
            self.dataset,
            batch_size=None,  # a key of the sampler is that of a batch
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=leave_group,
            pin_memory=torch.cuda.is_available(),
        )
        loader.stream = {
            "length": len(self.source),
            "digest": self.source.digest(),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "window_shards": self.window,
            "steps_per_epoch": steps,
        }
        return loader


def leave_group(worker: int) -> None:
    """Move a loading process out of its trainer's process group, and let it end with the trainer.

    Only the trainer may handle a signal to the whole group (from torchrun or a terminal) or to
    every process of a job (from a scheduler): it saves and ends its workers, while a worker that
    died first would end the run with a traceback.  A worker that waits to hand over a large batch
    does not notice that its trainer was killed.
    """
    os.setpgid(0, 0)
    keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, GRACE))
    trainer = multiprocessing.parent_process()
    if trainer is not None and trainer.pid is not None:
        end_with(trainer.pid)
