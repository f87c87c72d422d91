"""Segmentation and retrieval callbacks in a real Trainer: numbers and pictures; and those of every
measure on several ranks against one process.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from gestalt.data_modules.pixels.pictures import read_picture
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.confusion import class_keys, image_miou, pixel_counts
from gestalt.measures.evaluation.prompts import templates_digest
from gestalt.measures.retrieval.callback import Retrieval
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.class_maps import write_extremes
from gestalt.measures.segmentation.mean_iou import confusion_of
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.stage import (
    LENGTH,
    PaintedSet,
    Stub,
    as_rank,
    context,
    loader,
    quiet,
    run_alone_and_as_ranks,
    validate,
)
from tests.gestalt.measures.test_measures import everyone
from tests.gestalt.painted import LABELS, NAMES, striped_label

PROTOCOL = top_down_protocol("whole_short_side", input_size=16, multiple=4)


def scored(
    dataset: PaintedSet, *, flaw: str = "", protocol: TopDownProtocol = PROTOCOL
) -> Segmentation:
    """One evaluation on one rank."""
    callback = Segmentation(context(pictures=2, protocol=protocol))
    validate(callback, dataset=dataset, flaw=flaw)
    return callback


pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


def test_an_oracle_scores_one_and_baselines_score_less():
    metrics = scored(PaintedSet(striped_label)).result()["metrics"]
    assert (
        metrics["painted/miou"]
        == metrics["painted/pixel_accuracy"]
        == metrics["painted/miou_patch_oracle"]
        == 1
    )
    assert metrics["painted/miou_shuffled_text"] == 0
    assert 0 < metrics["painted/miou_constant_background"] < 0.25
    assert {f"painted/iou/{name}" for name in NAMES} < set(metrics)


def test_a_multiple_that_the_patches_do_not_divide_gives_way_to_them():
    other = scored(PaintedSet(striped_label), protocol=replace(PROTOCOL, multiple=6))
    assert other.result() == scored(PaintedSet(striped_label)).result()


def test_a_set_without_a_background_class_has_no_constant_background():
    labels = replace(LABELS, background=None)
    callback = Segmentation(context(labels=labels, pictures=0, protocol=PROTOCOL))
    validate(callback, dataset=PaintedSet(striped_label))
    result = callback.result()
    assert {"painted/miou_shuffled_text", "painted/miou_patch_oracle"} < set(result["metrics"])
    assert "painted/miou_constant_background" not in result["metrics"]
    assert "constant_class" not in result
    assert list(result["counts"]) == ["model", "shuffled_text", "patch_oracle"]


def test_the_result_is_json_and_describes_set_protocol_and_counts():
    callback = scored(PaintedSet())
    result = json.loads(json.dumps(callback.result(), allow_nan=False))
    assert (result["images"], result["images_in_set"]) == (LENGTH, LENGTH)
    assert result["protocol"]["digest"] == PROTOCOL.digest()
    assert result["label_set"] == LABELS.digest()
    assert result["constant_class"] == 0
    assert result["templates"] == templates_digest(PROTOCOL)
    assert (
        {"painted/miou", "painted/pixel_accuracy"}
        < set(result["metric_keys"])
        < set(result["metrics"])
    )
    labels = [PaintedSet()[index]["labels"]["painted"] for index in range(LENGTH)]
    ignored = sum(int((label == 255).sum()) for label in labels)
    assert result["ignored_pixels"] == ignored
    pixels = sum(label.numel() for label in labels) - ignored
    for counts in result["counts"].values():
        assert sum(counts[1]) == sum(counts[2]) == pixels
    counts = callback.per_image()["painted/counts"]
    assert counts.shape == (LENGTH, 3, len(NAMES))
    assert counts.sum(axis=0).tolist() == result["counts"]["model"]
    confusion = callback.per_image()["painted/confusion"]
    assert [
        confusion.diagonal().tolist(),
        confusion.sum(axis=0).tolist(),
        confusion.sum(axis=1).tolist(),
    ] == result["counts"]["model"]
    rows = callback.per_image()["painted/rows"]
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(confusion_of(rows, confusion.shape), confusion)


def test_the_best_and_the_worst_images_are_kept_with_their_predictions():
    callback = scored(PaintedSet(), flaw="transposed")
    result, found = callback.result(), callback.predictions()
    iou = image_miou(callback.per_image()["painted/counts"])
    assert result["best_images"][0] == {"sample_id": int(iou.argmax()), "iou": iou.max()}
    assert result["worst_images"][0] == {"sample_id": int(iou.argmin()), "iou": iou.min()}
    listed = [*result["best_images"], *result["worst_images"]]
    # seven are fewer than two ends of four
    assert sorted(one["sample_id"] for one in listed) == list(range(LENGTH))
    assert [one.title for one in found.images] == [f"p/{one['sample_id']}" for one in listed]
    for one, said in zip(found.images, listed, strict=True):
        counts = pixel_counts(one.prediction.numpy(), one.label.numpy(), classes=len(NAMES))
        assert image_miou(counts[None])[0] == said["iou"]


def test_benchmarks_that_share_images_use_separate_label_sets():
    class Shared(PaintedSet):
        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = super().__getitem__(index)
            label = sample["labels"]["painted"]
            wrong = label.masked_fill(label == 1, 2) if index >= 0 else label
            return {**sample, "labels": {"right": label, "wrong": wrong}}

    callbacks = [
        Segmentation(context(f"painted_{name}", label_set=name, protocol=PROTOCOL))
        for name in ("right", "wrong")
    ]
    validate(*callbacks, dataset=Shared(striped_label))
    assert callbacks[0].result()["metrics"]["painted_right/miou"] == 1
    assert callbacks[1].result()["metrics"]["painted_wrong/miou"] < 1
    callback = Segmentation(context(protocol=PROTOCOL))
    with pytest.raises(
        ValueError, match="no label set 'painted'; they have \\['right', 'wrong'\\]"
    ):
        validate(callback, dataset=Shared(striped_label))


def test_fit_logs_each_epoch_shows_pictures_and_checkpoints_can_watch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="run")
    watch = ModelCheckpoint(monitor="painted/miou", mode="max", filename="best")
    callbacks = [
        Segmentation(context(pictures=2, protocol=PROTOCOL)),
        watch,
    ]
    callbacks += [Retrieval(context(protocol=PROTOCOL))]
    trainer = quiet(
        devices=1,
        max_epochs=2,
        num_sanity_val_steps=1,
        logger=logger,
        enable_checkpointing=True,
        log_every_n_steps=1,
        callbacks=callbacks,
    )
    trainer.fit(
        Stub(), DataLoader(TensorDataset(torch.zeros(2, 1))), loader(PaintedSet(striped_label))
    )
    assert watch.best_model_score == 1
    assert trainer.callback_metrics["painted/iou/apple"] == 1
    assert trainer.callback_metrics["painted/recall_at_10"] == 1
    hits = callbacks[2].per_image()
    assert {key.rpartition("_at_")[0] for key in hits} == {
        "painted/image_to_text_recall",
        "painted/text_to_image_recall",
    }
    assert all(counts.shape == (LENGTH, 2) for counts in hits.values())
    files = sorted(path.name for path in (tmp_path / "run" / "pictures" / "painted").iterdir())
    assert files == [f"epoch_{epoch:03d}_p_{index}.png" for epoch in range(2) for index in (1, 5)]
    assert min(read_picture(tmp_path / "run" / "pictures" / "painted" / files[0]).shape[1:]) > 256
    events = EventAccumulator(str(tmp_path / "run")).Reload().Tags()
    assert set(events["images"]) == {
        "4 pictures/painted/pictures/0",
        "4 pictures/painted/pictures/1",
    }
    assert "painted/miou" in events["scalars"]


def test_a_sanity_check_logs_nothing(tmp_path):
    callback = Segmentation(context(protocol=PROTOCOL))
    trainer = quiet(
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=2,
        limit_val_batches=2,
        check_val_every_n_epoch=5,
        callbacks=[callback],
        logger=TensorBoardLogger(tmp_path, name="", version="run"),
        log_every_n_steps=1,
    )
    trainer.fit(
        Stub(), DataLoader(TensorDataset(torch.zeros(1, 1))), loader(PaintedSet(striped_label))
    )
    assert not [key for key in trainer.callback_metrics if key.startswith("painted/")]
    assert not (tmp_path / "run" / "pictures").exists()


def test_classes_with_the_same_name_get_distinct_keys():
    assert class_keys(["food", "cat", "food"]) == ["food 0", "cat", "food 2"]


def _rank(rank: int, world: int, folder: str, port: int) -> None:
    """Train and validate as one of several ranks; writes this rank's results."""
    if world > 1:
        as_rank(rank, port)
    segmentation = Segmentation(context(pictures=7, protocol=PROTOCOL))
    # the other ranks are told the folder
    segmentation.folder = None if rank else Path(folder, f"maps_of_{world}")
    scorers = [segmentation, Retrieval(context(protocol=PROTOCOL)), *everyone()]
    watch = ModelCheckpoint(monitor="painted/miou", mode="max")
    trainer = quiet(
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        max_epochs=1,
        logger=TensorBoardLogger(folder, name="", version=f"of_{world}"),
        enable_checkpointing=True,
        log_every_n_steps=1,
        callbacks=[*scorers, watch],
        num_sanity_val_steps=1,
    )
    trainer.fit(
        Stub(flaw="transposed"),
        DataLoader(TensorDataset(torch.zeros(2, 1))),
        loader(PaintedSet(), rank=rank, world=world),
    )
    assert (segmentation.predictions() is None) == (rank != 0)
    if rank == 0:
        write_extremes(Path(folder, f"extremes_of_{world}"), [segmentation])
    arrays = [scorer.per_image() for scorer in scorers]
    said = {
        "results": [scorer.result() for scorer in scorers],
        "arrays": [{key: values.tolist() for key, values in one.items()} for one in arrays],
        "logged": {key: float(value) for key, value in trainer.callback_metrics.items()},
        "watched": float(watch.best_model_score or -1),
    }
    Path(folder, f"{world}_{rank}.json").write_text(json.dumps(said))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_give_the_scores_maps_and_pictures_of_one_process(world, tmp_path):
    run_alone_and_as_ranks(_rank, tmp_path, world=world)
    alone = (tmp_path / "1_0.json").read_text()
    assert 0 < json.loads(alone)["results"][0]["metrics"]["painted/miou"] < 1
    for rank in range(world):
        assert (tmp_path / f"{world}_{rank}.json").read_text() == alone

    def files(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(tmp_path, folder).iterdir()}

    assert files(f"extremes_of_{world}") == files("extremes_of_1")
    maps = files("maps_of_1/p")
    assert files(f"maps_of_{world}/p") == maps
    assert sorted(maps) == [f"{index}.png" for index in range(LENGTH)]
    pictures = files("of_1/pictures/painted")
    assert files(f"of_{world}/pictures/painted") == pictures
    assert {f"epoch_000_p_{index}.png" for index in range(LENGTH)} <= pictures.keys()
