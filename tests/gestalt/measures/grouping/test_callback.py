"""The grouping callback in a real Trainer: numbers, pictures, ranks, and what happens where a set
has no objects.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gestalt.data_modules.labels.predicted_maps import find_maps, group_map, read_map
from gestalt.measures.callback import SkippedMeasure
from gestalt.measures.evaluation.protocols import PredictionsProtocol, build_protocol
from gestalt.measures.grouping.callback import Grouping, GroupMaps
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from tests.data_modules.fakes.masks import draw_voc
from tests.gestalt.measures.stage import LENGTH, Images, Stub, context, loader, quiet, validate
from tests.gestalt.painted import LABELS, blocky_label, painted
from tests.gestalt.tiny_config import tiny_config

PROTOCOL = build_protocol("pca_short_side", GROUPING_PROTOCOLS, input_size=16, multiple=4)
EMPTY = 2
"""The image without objects."""

pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


class PaintedObjects(Dataset[dict[str, Any]]):
    """Seven images of four sizes, their objects in greys of their own, with a void corner; index -1
    is padding.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        instance = blocky_label(4, 4 + max(index, 0) % 4, block=4, seed=max(index, 0))
        image = painted(instance)
        instance[:2, :3] = 255
        instance = (
            torch.full_like(instance, 255)
            if index < 0
            else instance.where(instance == 255, 0)
            if index == EMPTY
            else instance
        )
        return {
            "image": image,
            "instance": instance,
            "sample_id": index,
            "name": f"p/{index}",
            "set": "painted",
        }


def grouping(name: str = "painted", **changes: Any) -> Grouping:
    """The callback under test."""
    protocol = dataclasses.replace(PROTOCOL, **changes)
    return Grouping(
        context(images=Images(name, labels=LABELS), pictures=2, protocol=protocol),
    )


def scored(*, flaw: str = "", **changes: Any) -> Grouping:
    """One evaluation on one rank."""
    callback = grouping(**changes)
    validate(callback, dataset=PaintedObjects(), flaw=flaw)
    return callback


def test_object_features_score_far_above_the_block_and_whole_image_baselines():
    metrics = scored(upsample="nearest").result()["metrics"]
    assert metrics["painted/jaccard"] > 0.9
    assert metrics["painted/jaccard_patch_oracle"] > 0.8  # its maps are bilinear, and cut corners
    assert metrics["painted/jaccard"] > metrics["painted/jaccard_blocks"] + 0.3
    assert metrics["painted/jaccard"] > metrics["painted/jaccard_whole_image"] + 0.3


def test_a_multiple_that_the_patches_do_not_divide_gives_way_to_them():
    assert scored(multiple=6).result() == scored().result()


def test_a_tower_without_heads_is_refused_before_an_epoch_is_spent():
    protocol = build_protocol("attention_square", GROUPING_PROTOCOLS, input_size=16)
    callback = Grouping(context(protocol=protocol))
    with pytest.raises(ValueError, match="the image tower is a CNN"):
        quiet(devices=1, callbacks=[callback], max_epochs=1).fit(
            Stub(flaw="no_class_token"),
            DataLoader(TensorDataset(torch.zeros(2, 1))),
            loader(PaintedObjects()),
        )


def test_the_result_is_json_with_counts_of_groups_images_and_objects():
    callback = scored()
    result = json.loads(json.dumps(callback.result(), allow_nan=False))
    objects = sum(
        len(set(PaintedObjects()[index]["instance"].flatten().tolist()) - {0, 255})
        for index in range(LENGTH)
    )
    assert (result["images"], result["images_with_objects"], result["images_in_set"]) == (
        LENGTH,
        LENGTH - 1,
        LENGTH,
    )
    assert (result["objects"], result["groups"]) == (objects, 8)
    assert result["protocol"]["digest"] == PROTOCOL.digest()
    names = [
        f"painted/jaccard{middle}{end}"
        for middle in ("", "_with_background")
        for end in ("", *(f"_{one}" for one in Grouping.baselines))
    ]
    assert sorted(result["metrics"]) == sorted(names)
    assert set(result["counts"]) == {"model", *Grouping.baselines}
    for inside, union in result["counts"].values():
        assert 0 < inside <= union


def test_written_groups_score_exactly_what_the_model_scored(tmp_path):
    class Writing(Grouping):
        def count(self, predictions: Any, truth: Any, *, batch: Any, **baselines: Any) -> Any:
            for name, groups in zip(batch["name"], predictions, strict=True):
                Image.fromarray(groups.numpy()).save(tmp_path / f"{name}.png")
            return super().count(predictions, truth, batch=batch, **baselines)

    (tmp_path / "p").mkdir()
    model = Writing(context(protocol=PROTOCOL))
    validate(model, dataset=PaintedObjects(), flaw="transposed")
    files = find_maps(tmp_path, [f"p/{index}" for index in range(LENGTH)])

    class Written(PaintedObjects):
        def __getitem__(self, index: int) -> dict[str, Any]:
            path = files[max(index, 0)]
            return super().__getitem__(index) | {"prediction": group_map(read_map(path), path=path)}

    maps = GroupMaps(context(pictures=2, protocol=PredictionsProtocol(unnamed="group")))
    validate(maps, dataset=Written())
    ours, theirs = model.result(), maps.result()
    for key in ("jaccard", "jaccard_with_background", "jaccard_whole_image"):
        assert theirs["metrics"][f"painted/{key}"] == ours["metrics"][f"painted/{key}"]
    assert theirs["counts"]["model"] == ours["counts"]["model"]
    for key in ("objects", "images_with_objects"):
        assert theirs[key] == ours[key]
    for key, values in model.per_image().items():
        assert np.array_equal(values, maps.per_image()[key], equal_nan=True)


def test_a_set_that_never_comes_or_has_no_objects_is_an_error():
    with pytest.raises(ValueError, match="image set pianted: none of its images was scored"):
        validate(grouping("pianted"), dataset=PaintedObjects())
    batch = {"set": "painted", "image": [], "sample_id": torch.zeros(0)}
    with pytest.raises(ValueError, match="image set painted: its batches have no 'instance'"):
        grouping().on_validation_batch_end(quiet(devices=1), Stub(), None, batch, 0)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Photographs in the layout of VOC, with objects."""
    draw_voc(tmp_path)
    return tmp_path


def built(*words: str) -> list[Any]:
    """The scorers that a configuration asks for."""
    from gestalt.runs.evaluation import build_evaluation

    return list(build_evaluation(tiny_config(*words))[1])


def test_scenes_are_grouped_by_the_benchmarks_protocol_at_the_towers_size():
    (callback,) = (one for one in built("image.eval_size=64") if isinstance(one, Grouping))
    assert callback.name == "scenes"
    assert callback.protocol == build_protocol("pca_square", GROUPING_PROTOCOLS, input_size=64)
    (callback,) = (
        one
        for one in built("evaluation.grouping_protocol=pca_short_side")
        if isinstance(one, Grouping)
    )
    assert callback.protocol == build_protocol("pca_short_side", GROUPING_PROTOCOLS, input_size=32)


def test_voc_grouping_is_left_out_with_a_message_if_the_folder_has_no_objects(voc, capsys):
    words = ("evaluation.benchmarks=[pascal_voc]", f"benchmark_root={voc}")
    assert [one.name for one in built(*words) if isinstance(one, Grouping)] == ["pascal_voc"]
    objects = voc / "VOCdevkit" / "VOC2012" / "SegmentationObject"
    objects.rename(voc / "elsewhere")
    callbacks = built(*words)
    assert not [one for one in callbacks if isinstance(one, Grouping)]
    (left_out,) = (one for one in callbacks if isinstance(one, SkippedMeasure))
    why = f"no folder {objects}"
    assert left_out.result() == {
        "set": "pascal_voc",
        "left_out": "grouping",
        "why": why,
        "metrics": {},
    }
    trainer = quiet(devices=1)
    for stage in ("fit", "validate"):
        left_out.setup(trainer, Stub(), stage)
    assert capsys.readouterr().err.count(f"pascal_voc: grouping is left out, {why}\n") == 1


def test_a_grouping_protocol_for_a_set_without_objects_is_refused(voc):
    (voc / "VOCdevkit" / "VOC2012" / "SegmentationObject").rename(voc / "elsewhere")
    words = (
        "evaluation.benchmarks=[pascal_voc]",
        f"benchmark_root={voc}",
        "evaluation.grouping_protocol=pca_square",
    )
    with pytest.raises(
        ValueError,
        match=(
            r"evaluation\.grouping_protocol=pca_square: benchmark pascal_voc has no objects, no "
            r"folder"
        ),
    ):
        built(*words)
