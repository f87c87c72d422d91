"""A Trainer, a module and loaders for painted sets, for tests of callbacks that score."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.context import Context
from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.keys import Evaluation
from tests.gestalt.at_step import QUIET
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted
from tests.gestalt.ranks import run_all

LENGTH = 7
EMPTY = 2
"""The image without objects."""


class Images(list[Any]):
    """An image set of so many images, which are not read."""

    official_length = no_instances = None

    def __init__(self, name: str, *, labels: LabelSet, length: int = LENGTH) -> None:
        super().__init__(range(length))
        self.name = name
        self.label_sets = dict.fromkeys(("painted", "right", "wrong"), labels)


class PaintedSet(Images):
    """Seven painted images with every kind of truth and a void corner: maps of four sizes, or one
    bird (class 1 or 2) on one of two grounds.  Index -1 is padding.
    """

    def __init__(self, draw: Callable[..., Tensor] = blocky_label, *, birds: bool = False) -> None:
        super().__init__("painted", labels=LABELS)
        self.draw, self.birds = draw, birds

    def sample(self, index: int) -> dict[str, Any]:
        """Return a sample that holds the image alone, all that centres are fitted to."""
        return {"image": self[index]["image"]}

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        number = max(index, 0)
        bird, place = divmod(number % 4, 2)
        label = self.draw(4, 4 + number % 4, seed=number)
        if self.birds:
            label = torch.full((16, 24), 3 * place, dtype=torch.uint8)
            label[4:12, 8:20] = 1 + bird
        image = painted(label)
        label[:2, :3] = 255
        sample = {"image": image, "sample_id": index, "name": f"p/{index}", "set": "painted"}
        if index < 0:
            label = torch.full_like(label, 255)
            truth = {"class_label": -1, "place": -1, "captions": []}
        else:
            captions = [f"thing {index} hour", "an apple"]
            truth = {"class_label": bird, "place": place, "captions": captions}
        objects = label.where(label == 255, 0) if index == EMPTY else label
        return {**sample, **truth, "labels": {"painted": label}, "instance": objects}


def context(
    name: str = "painted",
    *,
    labels: LabelSet = LABELS,
    label_set: str = "painted",
    images: Any = None,
    unlabelled: Any = None,
    protocol: Any = None,
    **evaluation: Any,
) -> Context:
    """The context of a measure of a painted set."""
    return Context(
        Evaluation(**evaluation),
        Benchmark(name, "painted", label_set),
        images or Images("painted", labels=labels),
        size=16,
        open_unlabelled=lambda: unlabelled,
        given=protocol,
    )


def count(metric: Any, prediction: Tensor, label: Tensor, index: int) -> None:
    """Update a metric by one image."""
    metric.update([prediction], [label], torch.tensor([index]))


class Dealt(Sampler[list[int]]):
    """Whole batches of two, dealt to ranks; padding past the end."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return -(-LENGTH // (2 * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(len(self)):
            start = (step * self.world + self.rank) * 2
            yield [index if index < LENGTH else -1 for index in (start, start + 1)]


def collated(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Lists of tensors, as image sets come."""
    batch: dict[str, Any] = {key: [sample[key] for sample in samples] for key in samples[0]}
    batch["labels"] = {
        key: [sample["labels"][key] for sample in samples] for key in batch["labels"][0]
    }
    for key in ("sample_id", "class_label", "place"):
        batch[key] = torch.tensor(batch[key])
    return {**batch, "set": samples[0]["set"]}


def loader(dataset: Any, *, rank: int = 0, world: int = 1) -> DataLoader[dict[str, Any]]:
    """One rank's batches."""
    return DataLoader(dataset, batch_sampler=Dealt(rank, world), collate_fn=collated)


class Stub(LightningModule):
    """Holds a model, trains its one parameter on nothing."""

    def __init__(self, *, flaw: str = "") -> None:
        super().__init__()
        self.model = PaintedModel(flaw=flaw)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.model.scale.square()

    def validation_step(
        self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Nothing: callbacks score image sets."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def quiet(**keywords: Any) -> Trainer:
    """A small trainer on the CPU."""
    return Trainer(**{**QUIET, "use_distributed_sampler": False, **keywords})


def validate(*callbacks: Any, dataset: PaintedSet, flaw: str = "") -> None:
    """Score a set in one evaluation on one rank."""
    trainer = quiet(devices=1, callbacks=list(callbacks))
    trainer.validate(Stub(flaw=flaw), loader(dataset), verbose=False)


def as_rank(rank: int, port: int) -> None:
    """Set the environment of one of several ranks on this machine."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
    }


def run_alone_and_as_ranks(
    function: Callable[[int, int, str, int], None], folder: Path, *, world: int
) -> None:
    """Call a function of (rank, number of ranks, folder, port) alone, then in a process for each
    rank.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    function(0, 1, str(folder), port)
    code = f"from {function.__module__} import {function.__name__} as work; work(%d, %d, %r, %d)"
    run_all(["-c", code % (rank, world, str(folder), port)] for rank in range(world))
