"""The grouping callback in a real Trainer: numbers, pictures, ranks, and what happens where a set has no objects."""

import dataclasses
import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset, TensorDataset

from data_modules.pixels.pictures import read_picture
from gestalt.evaluation.protocols import GROUPING_PROTOCOLS, build_protocol
from gestalt.measures.grouping.callback import BASELINES, Grouping
from gestalt.measures.measured import LeftOut
from tests.gestalt.measures.stage import LENGTH, Stub, loader, quiet
from tests.gestalt.painted import blocky_label, painted

PROTOCOL = build_protocol("pca_short_side", GROUPING_PROTOCOLS, input_size=16, multiple=4)
EMPTY = 2
"""The image without objects."""

pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


class PaintedObjects(Dataset[dict[str, Any]]):
    """Seven images of four sizes, their objects in greys of their own, with a void corner; index -1 is padding."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        instance = blocky_label(4, 4 + max(index, 0) % 4, block=4, seed=max(index, 0))
        image = painted(instance)
        instance[:2, :3] = 255
        instance = torch.full_like(instance, 255) if index < 0 else instance.where(instance == 255, 0) if index == EMPTY else instance
        return {"image": image, "instance": instance, "sample_id": index, "name": f"p/{index}", "set": "painted"}


def grouping(name: str = "painted", **changes: Any) -> Grouping:
    """The callback under test."""
    return Grouping(name, protocol=dataclasses.replace(PROTOCOL, **changes), length=LENGTH, pictures=2)


def scored(*, flaw: str = "", **changes: Any) -> Grouping:
    """One evaluation on one rank."""
    callback = grouping(**changes)
    quiet(devices=1, callbacks=[callback]).validate(Stub(flaw=flaw), loader(PaintedObjects()), verbose=False)
    return callback


def test_object_features_score_far_above_the_block_and_whole_image_baselines() -> None:
    metrics = scored(upsample="nearest").result()["metrics"]
    assert metrics["painted/jaccard"] > 0.9
    assert metrics["painted/jaccard_patch_oracle"] > 0.8  # its maps are bilinear, and cut corners
    assert metrics["painted/jaccard"] > metrics["painted/jaccard_blocks"] + 0.3
    assert metrics["painted/jaccard"] > metrics["painted/jaccard_whole_image"] + 0.3


def test_constant_features_score_like_the_whole_image_baseline() -> None:
    metrics = scored(flaw="constant").result()["metrics"]
    for key in ("painted/jaccard", "painted/jaccard_with_background"):
        assert metrics[key] == metrics[f"{key}_whole_image"]


def test_heads_are_counted_scored_and_drawn_as_masks(tmp_path: Path) -> None:
    protocol = build_protocol("attention_short_side", GROUPING_PROTOCOLS, input_size=16, multiple=4, mass=0.999)
    callback = Grouping("painted", protocol=protocol, length=LENGTH, pictures=2)
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    quiet(devices=1, callbacks=[callback], logger=logger).validate(Stub(), loader(PaintedObjects()), verbose=False)
    result = callback.result()
    assert result["groups"] == 4
    assert result["metrics"]["painted/jaccard"] > 0.9
    assert len(list((tmp_path / "run" / "pictures" / "painted").iterdir())) == 2


def test_a_tower_without_heads_is_refused_before_an_epoch_is_spent() -> None:
    callback = Grouping("painted", protocol=build_protocol("attention_square", GROUPING_PROTOCOLS, input_size=16), length=LENGTH)
    with pytest.raises(ValueError, match="the image tower is a CNN"):
        quiet(devices=1, callbacks=[callback], max_epochs=1).fit(
            Stub(flaw="no_class_token"), DataLoader(TensorDataset(torch.zeros(2, 1))), loader(PaintedObjects())
        )


def test_the_blocks_are_as_many_as_the_groups() -> None:
    one = scored(groups=1).result()["metrics"]
    assert one["painted/jaccard_blocks"] == one["painted/jaccard_whole_image"] == one["painted/jaccard"]
    assert scored(groups=8).result()["metrics"]["painted/jaccard_blocks"] != one["painted/jaccard_blocks"]


def test_the_result_is_json_with_counts_of_groups_images_and_objects() -> None:
    callback = scored()
    result = json.loads(json.dumps(callback.result(), allow_nan=False))
    objects = sum(len(set(PaintedObjects()[index]["instance"].flatten().tolist()) - {0, 255}) for index in range(LENGTH))
    assert (result["images"], result["images_with_objects"], result["images_in_set"]) == (LENGTH, LENGTH - 1, LENGTH)
    assert (result["objects"], result["groups"]) == (objects, 8)
    assert result["protocol"]["digest"] == PROTOCOL.digest()
    names = [f"painted/jaccard{middle}{end}" for middle in ("", "_with_background") for end in ("", *(f"_{one}" for one in BASELINES))]
    assert sorted(result["metrics"]) == sorted(names)
    assert set(result["counts"]) == {"model", *BASELINES}
    for inside, union in result["counts"].values():
        assert 0 < inside <= union


def test_each_image_has_its_number_and_their_mean_is_the_score() -> None:
    callback = scored()
    images = callback.per_image()
    assert set(images) == {"painted/jaccard", "painted/jaccard_with_background"}
    for key, values in images.items():
        assert values.dtype == np.float64
        assert np.isnan(values).tolist() == [index == EMPTY for index in range(LENGTH)]
        assert callback.result()["metrics"][key] == pytest.approx(np.nanmean(values), rel=1e-15)
    assert callback.scores["model"].image_id.tolist() == list(range(LENGTH))


def test_the_result_is_empty_before_an_evaluation() -> None:
    assert grouping().result() == {}
    assert grouping().per_image() == {}
    assert grouping().logged() == {}


def test_a_set_that_never_comes_or_has_no_objects_is_an_error() -> None:
    with pytest.raises(ValueError, match="image set pianted: none of its images was scored"):
        quiet(devices=1, callbacks=[grouping("pianted")]).validate(Stub(), loader(PaintedObjects()), verbose=False)
    batch = {"set": "painted", "image": [], "sample_id": torch.zeros(0)}
    with pytest.raises(ValueError, match="image set painted: its batches have no 'instance'"):
        grouping().on_validation_batch_end(quiet(devices=1), Stub(), None, batch, 0)


def test_fit_logs_each_epoch_and_shows_pictures_but_not_in_a_sanity_check(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = quiet(devices=1, max_epochs=2, num_sanity_val_steps=-1, logger=logger, log_every_n_steps=1, callbacks=[grouping()])
    trainer.fit(Stub(), DataLoader(TensorDataset(torch.zeros(2, 1))), loader(PaintedObjects()))
    assert 0.5 < trainer.callback_metrics["painted/jaccard"] <= 1
    files = sorted(path.name for path in (tmp_path / "run" / "pictures" / "painted").iterdir())
    assert files == [f"epoch_{epoch:03d}_p_{index}_groups.png" for epoch in range(2) for index in (1, 5)]
    assert min(read_picture(tmp_path / "run" / "pictures" / "painted" / files[0]).shape[1:]) > 256
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(tmp_path / "run"))
    accumulator.Reload()
    tags = accumulator.Tags()
    assert set(tags["images"]) == {"4 pictures/painted/groups/0", "4 pictures/painted/groups/1"}
    assert {"painted/jaccard", "painted/jaccard_with_background", "painted/jaccard_blocks"} < set(tags["scalars"])
    assert len(accumulator.Scalars("painted/jaccard")) == 2


def _rank(rank: int, world: int, folder: str, port: int) -> None:
    """Validate as one of several ranks; writes this rank's results."""
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ.update(environment if world > 1 else {})
    callback = Grouping("painted", protocol=PROTOCOL, length=LENGTH, pictures=7)
    logger = TensorBoardLogger(folder, name="", version=f"of_{world}")
    trainer = quiet(devices=world, strategy="ddp" if world > 1 else "auto", max_epochs=1, logger=logger, callbacks=[callback])
    trainer.fit(Stub(), DataLoader(TensorDataset(torch.zeros(world, 1))), loader(PaintedObjects(), rank=rank, world=world))
    images = {key: [None if math.isnan(value) else value for value in values.tolist()] for key, values in callback.per_image().items()}
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    Path(folder, f"{world}_{rank}.json").write_text(json.dumps({"result": callback.result(), "images": images, "logged": logged}))


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")  # one batch is enough here
@pytest.mark.parametrize("world", [2, 3])
def test_scores_and_pictures_do_not_depend_on_the_number_of_ranks(world: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _rank(0, 1, str(tmp_path), port)
    multiprocessing.spawn(_rank, args=(world, str(tmp_path), port), nprocs=world)  # type: ignore[attr-defined,no-untyped-call]
    one = json.loads((tmp_path / "1_0.json").read_text())
    assert 0 < one["result"]["metrics"]["painted/jaccard"] < 1
    for rank in range(world):
        assert json.loads((tmp_path / f"{world}_{rank}.json").read_text()) == one
    pictures = [sorted((tmp_path / f"of_{each}" / "pictures" / "painted").iterdir()) for each in (1, world)]
    assert [path.name for path in pictures[0]] == [path.name for path in pictures[1]]
    assert len(pictures[0]) == LENGTH
    for first, second in zip(*pictures, strict=True):
        assert torch.equal(read_picture(first), read_picture(second))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """One photograph in the layout of VOC, with one object."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 10:30] = 1
    for name, picture in (("SegmentationClass", mask), ("SegmentationObject", mask), ("JPEGImages", mask.repeat(3, axis=1) * 90)):
        (folder / name).mkdir(parents=True)
        picture = picture.reshape(40, 60, -1).squeeze()
        Image.fromarray(picture).save(folder / name / f"a.{'jpg' if name == 'JPEGImages' else 'png'}")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    return tmp_path


def built(*words: str) -> list[Any]:
    """The scorers that a configuration asks for."""
    from gestalt.building.evaluation import build_evaluation
    from gestalt.config.loading import load

    return list(build_evaluation(load("clippy_dino_max", scale="tiny", overrides=list(words)))[1])


def test_scenes_are_grouped_by_the_benchmarks_protocol_at_the_towers_size() -> None:
    (callback,) = (one for one in built("image.eval_size=64") if isinstance(one, Grouping))
    assert callback.name == "scenes"
    assert callback.protocol == build_protocol("pca_square", GROUPING_PROTOCOLS, input_size=64)
    (callback,) = (one for one in built("evaluation.grouping_protocol=pca_short_side") if isinstance(one, Grouping))
    assert callback.protocol == build_protocol("pca_short_side", GROUPING_PROTOCOLS, input_size=32)


def test_voc_grouping_is_left_out_with_a_message_if_the_folder_has_no_objects(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluation.benchmarks=[pascal_voc]", f"benchmark_root={voc}")
    assert [one.name for one in built(*words) if isinstance(one, Grouping)] == ["pascal_voc"]
    objects = voc / "VOCdevkit" / "VOC2012" / "SegmentationObject"
    objects.rename(voc / "elsewhere")
    callbacks = built(*words)
    assert not [one for one in callbacks if isinstance(one, Grouping)]
    (left_out,) = (one for one in callbacks if isinstance(one, LeftOut))
    why = f"no folder {objects}"
    assert left_out.result() == {"set": "pascal_voc", "left_out": "grouping", "why": why, "metrics": {}}
    trainer = quiet(devices=1)
    for stage in ("fit", "validate"):
        left_out.setup(trainer, Stub(), stage)
    assert capsys.readouterr().err.count(f"pascal_voc: grouping is left out, {why}\n") == 1


def test_a_grouping_protocol_for_a_set_without_objects_is_refused(voc: Path) -> None:
    (voc / "VOCdevkit" / "VOC2012" / "SegmentationObject").rename(voc / "elsewhere")
    words = ("evaluation.benchmarks=[pascal_voc]", f"benchmark_root={voc}", "evaluation.grouping_protocol=pca_square")
    with pytest.raises(ValueError, match=r"evaluation\.grouping_protocol=pca_square: benchmark pascal_voc has no objects, no folder"):
        built(*words)
