"""The grouping callback in a real Trainer: numbers, pictures, ranks, and what happens where a set
has no objects; its metric against loops.
"""

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gestalt.measures.callback import SkippedMeasure
from gestalt.measures.evaluation.pictures import class_colours
from gestalt.measures.evaluation.protocols import PredictionsProtocol, build_protocol
from gestalt.measures.grouping.callback import (
    Grouping,
    GroupMaps,
    JaccardScore,
    JaccardSimilarity,
    best_overlaps,
    painted_groups,
)
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.support.label_values import IGNORE
from tests.data_modules.fakes.masks import draw_voc
from tests.gestalt.measures.stage import (
    LENGTH,
    Images,
    PaintedSet,
    Stub,
    context,
    count,
    loader,
    quiet,
    validate,
)
from tests.gestalt.painted import LABELS, PaintedModel
from tests.gestalt.tiny_config import tiny_config

PROTOCOL = build_protocol("pca_short_side", GROUPING_PROTOCOLS, input_size=16, multiple=4)

pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


def grouping(name: str = "painted", **changes: Any) -> Grouping:
    """The callback under test."""
    protocol = dataclasses.replace(PROTOCOL, **changes)
    return Grouping(
        context(images=Images(name, labels=LABELS), pictures=2, protocol=protocol),
    )


def scored(*, flaw: str = "", **changes: Any) -> Grouping:
    """One evaluation on one rank."""
    callback = grouping(**changes)
    validate(callback, dataset=PaintedSet(), flaw=flaw)
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
            loader(PaintedSet()),
        )


def test_the_result_is_json_with_counts_of_groups_images_and_objects():
    callback = scored()
    result = json.loads(json.dumps(callback.result(), allow_nan=False))
    objects = sum(
        len(set(PaintedSet()[index]["instance"].flatten().tolist()) - {0, 255})
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


class Grouped(PaintedSet):
    """The set with the groups that a model finds."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        model, size = PaintedModel(flaw="transposed"), tuple(sample["instance"].shape)
        (found,) = bottom_up(model, [sample["image"]], protocol=PROTOCOL, sizes=[size])
        return sample | {"prediction": found.groups}


def test_groups_that_are_given_score_exactly_what_the_model_scored():
    model = scored(flaw="transposed")
    maps = GroupMaps(context(pictures=2, protocol=PredictionsProtocol(unnamed="group")))
    validate(maps, dataset=Grouped())
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
        validate(grouping("pianted"), dataset=PaintedSet())
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


GROUPS = 8
COUNT = 7
NOTHING = 3
"""The image that shows no object."""


def pair(index: int) -> tuple[Tensor, Tensor]:
    """Groups and objects of one image; its size, its difficulty and its number of objects depend on
    the index.
    """
    draw = np.random.default_rng([11, index])
    size = (int(draw.integers(4, 12)), int(draw.integers(4, 30)))
    instance = draw.integers(0, 1 if index == NOTHING else 2 + index, size).astype(np.uint8)
    groups = np.where(
        draw.random(size) < index / 9, instance % GROUPS, draw.integers(0, GROUPS, size)
    ).astype(np.uint8)
    instance[draw.random(size) < 0.2] = IGNORE
    return torch.from_numpy(groups), torch.from_numpy(instance)


def score_of(pairs: list[tuple[Tensor, Tensor]]) -> JaccardScore:
    """The metric over some images."""
    metric = JaccardSimilarity()
    for index, (groups, instance) in enumerate(pairs):
        count(metric, groups, instance, index)
    score: JaccardScore = metric.compute()
    return score


def test_jaccard_is_averaged_over_images_and_not_over_objects():
    one = torch.tensor([[0, 0, 1, 1]])
    score = score_of([(one, one + 1), (one * 0, torch.tensor([[1, 2, 3, 4]]))])
    assert score.image_jaccard.tolist() == [1, 0.25]
    assert score.jaccard == 0.625  # over the six objects it would be 0.5
    with_background = score_of([(one, torch.tensor([[0, 0, 0, 1]]))])
    assert with_background.jaccard == 1 / 2
    assert with_background.jaccard_with_background == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_an_image_without_objects_is_seen_and_counts_in_neither_mean():
    whole = torch.zeros(2, 2, dtype=torch.uint8)
    object_half = torch.tensor([[0, 0], [1, 1]])
    score = score_of([(whole, object_half), (whole, whole), (whole, whole + IGNORE)])
    assert (score.images, score.images_with_objects, score.objects) == (3, 1, 1)
    np.testing.assert_array_equal(score.image_jaccard, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(score.image_jaccard_with_background, [0.5, np.nan, np.nan])
    assert score.jaccard_with_background == 0.5
    assert math.isnan(score_of([(whole, whole)]).jaccard)


@pytest.mark.parametrize("kind", ["bytes", "large values", "masks"])
def test_best_overlaps_equal_a_loop_over_objects_and_groups(kind):
    draw = torch.Generator().manual_seed(3)
    for trial in range(40):
        groups, instance = pair(trial % COUNT)
        names, shift = groups.unique(), 5000 if kind == "large values" else 0
        masks = torch.stack([groups == name for name in names])
        if kind == "masks":
            masks = groups = torch.rand(1 + trial % 4, *instance.shape, generator=draw) < trial / 40
            names = torch.arange(len(masks))
        instance = (
            torch.where(instance == IGNORE, IGNORE, instance.long() + shift) if shift else instance
        )
        rows = []
        for value in instance[instance != IGNORE].unique():
            truth = instance == value
            counts = [
                (int((mask & truth).sum()), int(((mask | truth) & (instance != IGNORE)).sum()))
                for mask in masks
            ]
            best = max(
                range(len(masks)),
                key=lambda index: (Fraction(*counts[index]), counts[index][0], -index),
            )
            rows.append([int(value), *counts[best], int(names[best]) + shift])
        overlaps = best_overlaps(groups.long() + shift if shift else groups, instance)
        assert overlaps.dtype == torch.int64
        assert overlaps.tolist() == rows


@pytest.mark.parametrize(
    ("groups", "instance", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(3, 2),
            r"sample 9: the groups are .* \(2, 3\), the objects \(3, 2\); groups must have",
        ),
        (torch.ones(0, 1, 1) > 0, torch.zeros(1, 1, dtype=torch.uint8), "sample 9: no groups"),
        (
            torch.zeros(1, 1),
            torch.zeros(1, 1, dtype=torch.uint8),
            "sample 9: the groups must be integers of at least 0, got torch.float32",
        ),
    ],
)
def test_what_cannot_be_counted_names_the_sample(groups, instance, message):
    with pytest.raises(ValueError, match=message):
        count(JaccardSimilarity(), groups, instance, 9)


def test_a_group_has_the_colour_of_the_object_it_covers_best():
    objects = class_colours(4, background=0)
    # value, intersection, union, group
    overlaps = torch.tensor([[0, 50, 100, 2], [1, 80, 100, 5], [3, 20, 100, 5]])
    _, colours = painted_groups(torch.zeros(1, 1), overlaps, objects)
    assert colours[2].tolist() == [0, 0, 0]
    assert colours[5].tolist() == objects[1].tolist()  # 80 of 100, not 20
    others = [
        tuple(colour) for index, colour in enumerate(colours[:9].tolist()) if index not in (2, 5)
    ]
    assert len(set(others)) == len(others)
    assert not {tuple(colour) for colour in objects.tolist()} & set(others)
    assert min(map(min, others)) >= 127
