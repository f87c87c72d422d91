"""Scoring on a device that is not the host's: tensors of two devices never meet, the numbers are
the CPU's, and the host seldom waits.
"""

import copy
import dataclasses
from collections import Counter
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from gestalt.api import Model
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.model import DualEncoder
from gestalt.tables import READINGS
from tests.gestalt.at_step import trainer_at
from tests.gestalt.measures.stage import Images, collated, context
from tests.gestalt.painted import LABELS, random_pixels
from tests.gestalt.tiny_model import tiny
from tests.gpu.stand_in import DEVICE, pretended_gpu

CPU = torch.device("cpu")
BATCHES = (1, 2)
AN_IMAGE, A_BATCH = 2, 5
"""The largest number of waits for one more image in a batch, and for a batch itself."""

FIRST_IMAGE, FIRST_BATCH = 4, 8
"""In a first evaluation, with the baselines that do not change."""

IN_WINDOWS = {"window": 16, "stride": 8, "long_limit": None, "refinement_dilations": (1,)}


def protocol_of(measure: str, name: str) -> Any:
    """A protocol at the size of the tiny model."""
    if measure != "segmentation":
        return build_protocol(name, MEASURES[measure].protocols, input_size=32)
    protocol = top_down_protocol(name)
    windows = IN_WINDOWS if protocol.window else {}
    return dataclasses.replace(protocol, input_size=32, **windows)


@cache
def model_on(device: torch.device) -> DualEncoder:
    """The tiny model on a device."""
    return copy.deepcopy(tiny()[0]).to(device)


def sample(index: int) -> dict[str, Any]:
    """An image of noise with every kind of truth."""
    label = random_pixels(32, 40, seed=index) % 4
    label[0] = 255
    return {
        "image": random_pixels(3, 32, 40, seed=index),
        "instance": label,
        "labels": {"painted": label},
        "class_label": 1,
        "place": 0,
        "captions": ["a dog", f"{index} dogs"],
        "sample_id": index,
        "name": str(index),
        "set": "painted",
    }


class Noise(Images):
    """The images of ``sample``."""

    def sample(self, index: int) -> dict[str, Any]:
        """Return one, to which centres are fitted."""
        return sample(index)


def batch_of(first: int, count: int) -> dict[str, Any]:
    """A batch of images."""
    return collated([sample(first + number) for number in range(count)])


def evaluate(
    measure: str, protocol: Any, device: torch.device, waits: Counter[str]
) -> tuple[dict[str, float], list[tuple[float, float]]]:
    """Evaluate twice, each time batches of ``BATCHES`` images.  Returns the metrics, and for each
    time the waits of one more image in a batch and of a batch itself.
    """
    images = Noise("painted", labels=LABELS, length=sum(BATCHES))
    of_set = context(images=images, protocol=protocol, pictures=0)
    of_set = dataclasses.replace(of_set, open_vision=lambda name: model_on(device))
    scorer = MEASURES[measure].build(of_set)
    model = model_on(device)
    module: Any = SimpleNamespace(model=model, device=device, log=lambda *_, **__: None)
    trainer: Any = trainer_at(
        is_global_zero=False, sanity_checking=False, state=SimpleNamespace(fn="validate")
    )
    scorer.setup(trainer, module, "validate")
    waited = []
    for _ in range(2):
        scorer.on_validation_epoch_start(trainer, module)
        of_batches = []
        for first, count in zip((0, BATCHES[0]), BATCHES, strict=True):
            batch = move_data_to_device(batch_of(first, count), device)
            before = waits.total()
            scorer.on_validation_batch_start(trainer, module, batch)
            scorer.on_validation_batch_end(trainer, module, None, batch)
            of_batches.append(waits.total() - before)
        scorer.on_validation_epoch_end(trainer, module)
        an_image = (of_batches[1] - of_batches[0]) / (BATCHES[1] - BATCHES[0])
        waited.append((an_image, of_batches[0] - BATCHES[0] * an_image))
    return scorer.logged(), waited


PROTOCOLS = [(name, protocol, None) for name, row in MEASURES.items() for protocol in row.protocols]
BY_READING = [("segmentation", "whole_square", reading) for reading in READINGS]


@torch.no_grad()
@pytest.mark.parametrize(("measure", "name", "reading"), PROTOCOLS + BY_READING)
def test_a_measure_has_the_cpus_numbers_on_a_device_and_seldom_waits(measure, name, reading):
    protocol = protocol_of(measure, name)
    if reading:
        proxy = "a model" if READINGS[reading].attention is None else ""
        protocol = dataclasses.replace(protocol, reading=reading, proxy=proxy)
    expected, _ = evaluate(measure, protocol, CPU, Counter())
    with pretended_gpu() as waits:
        found, (first, later) = evaluate(measure, protocol, DEVICE, waits)
    assert found == expected
    for (image, batch), most_image, most_batch in (
        (first, FIRST_IMAGE, FIRST_BATCH),
        (later, AN_IMAGE, A_BATCH),
    ):
        assert image <= most_image, waits
        assert batch <= most_batch, waits


def test_pictures_on_a_device_have_the_cpus_maps_and_seldom_wait():
    pictures = [random_pixels(3, 32, 40, seed=number) for number in range(4)]
    found: dict[torch.device, list[Any]] = {}
    with pretended_gpu() as waits:
        for device in (CPU, DEVICE):
            model = Model(model_on(device), tiny()[1], "tiny", "", {})
            of_counts = []
            for count in (1, 3):
                before = waits.total()
                segmented = model.segment(pictures[:count], ["a dog", "grass"])
                groups = model.group(pictures[:count], 3)
                of_counts.append(waits.total() - before)
            similar = model.similarity(pictures[0], ["a dog"])
            maps = [image.map for image in segmented] + [image.similarity for image in segmented]
            found[device] = [*maps, *groups, similar.cpu()]
            assert of_counts[1] - of_counts[0] <= 2 * 2 * AN_IMAGE, waits
    for here, there in zip(found[CPU], found[DEVICE], strict=True):
        assert here.equal(there)


@torch.no_grad()
def test_a_calibration_on_a_device_counts_as_on_the_cpu_without_waiting():
    protocol = dataclasses.replace(
        protocol_of("segmentation", "whole_square"), background="threshold", threshold=0.0
    )
    miou = {}
    for device in (CPU, DEVICE):
        with pretended_gpu() as waits:
            model = model_on(device)
            prompts = class_embeddings(model, LABELS, protocol=protocol)
            batch = move_data_to_device(batch_of(0, 3), device)
            segmented = top_down(model, batch["image"], prompts, protocol)
            sweep = Sweep(protocol, classes=4, background=0)
            waits.clear()
            for image, label in zip(segmented, batch["labels"]["painted"], strict=True):
                sweep.update(image, label)
            assert not waits
            miou[device] = sweep.miou().tolist()
    assert miou[DEVICE] == miou[CPU]
