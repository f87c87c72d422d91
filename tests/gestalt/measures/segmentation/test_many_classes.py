"""More classes than one byte holds: the engine against the slow reference, and maps that are
written and read back.  Their counts are in ``test_mean_iou.py``.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.data_modules.image_sets import ImageSetSample, LabelSet
from gestalt.data_modules.labels.masks import ValueMap
from gestalt.data_modules.labels.predicted_maps import colour_map
from gestalt.data_modules.validation import ImageSetDataset
from gestalt.measures.evaluation.pictures import VOID, class_colours
from gestalt.measures.segmentation.mean_iou import MeanIoU
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.measures.segmentation.segmented import segment_images
from gestalt.publishing.picture_page import indexed
from gestalt.support.label_values import PADDING
from tests.gestalt.measures.segmentation.test_parity import (
    RandomModel,
    assert_same,
    noise,
    rules_of,
)
from tests.gestalt.measures.stage import count
from tests.gestalt.painted import Words

CLASSES = 300
NAMES = tuple(f"thing {number}" for number in range(CLASSES))
LABELS = LabelSet(NAMES, prompts=tuple((name,) for name in NAMES), background=None)
NONE = 65_535


def test_a_protocol_on_many_classes_equals_the_slow_reference():
    words = Words(names=NAMES, prompts=LABELS.prompts, background=None)
    protocol = top_down_protocol(
        "mmseg-448", label_set="context59", has_background=False, vocabulary="label_set"
    )
    small = dataclasses.replace(protocol, input_size=64, window=64, stride=32)
    rules = dataclasses.replace(
        rules_of("mmseg-448"), final="argmax", bound=None, short=64, window=64, stride=32
    )
    assert_same(small, rules, size=(37, 53), model=RandomModel(width=64), words=words)


@pytest.mark.parametrize(("classes", "ignored"), [(255, 255), (256, NONE)])
def test_class_255_is_ignored_up_to_255_classes_and_counted_beyond(classes, ignored):
    metric = MeanIoU(classes)
    count(
        metric,
        torch.tensor([[254, 254, 0]]),
        torch.tensor([[254, ignored, min(255, classes - 1)]]),
        0,
    )
    score = metric.compute()
    assert (score.ignored_pixels, int(score.counts[2].sum())) == (1, 2)
    known = ValueMap({value: value for value in range(classes)}, ignored=[NONE], count=classes)
    assert known(np.array([[classes - 1, NONE]]), path=Path("m.tif")).tolist() == [
        [classes - 1, ignored]
    ]


def test_more_classes_than_a_matrix_holds_are_refused():
    with pytest.raises(ValueError, match="4097 classes: a segmentation has 2 to 4096"):
        MeanIoU(4_097)


def test_an_image_of_the_most_classes_is_counted_without_a_matrix_of_its_own():
    metric, zeros = MeanIoU(4_096), torch.zeros(9, 11, dtype=torch.int32)
    with torch.profiler.profile(profile_memory=True) as seen:
        count(metric, zeros, zeros, 0)
    assert max(event.cpu_memory_usage for event in seen.events()) < 2**20


@pytest.mark.parametrize(
    ("count", "kind", "none"),
    [(254, "uint8", 255), (255, "uint8", 255), (256, "int32", NONE), (300, "int32", NONE)],
)
def test_a_picture_is_segmented_by_any_number_of_labels(count, kind, none):
    protocol = top_down_protocol(
        "whole_square", input_size=32, background="threshold", threshold=0.1
    )
    result = segment_images(
        RandomModel(), [noise(20, 30)], labels=NAMES[:count], protocol=protocol
    )[0]
    assert result.map.dtype == getattr(torch, kind)
    assert set(result.map.unique().tolist()) <= {*range(count), none}
    stored = np.array(indexed(result))
    assert np.array_equal(stored, result.map.numpy())
    assert (indexed(result).mode == "P") == (count <= 255)
    assert result.overlay(legend=True).size[0] > 0
    blank = dataclasses.replace(result, map=torch.full_like(result.map, none))
    assert np.array_equal(np.array(blank.overlay()), result.image.permute(1, 2, 0).numpy())


class _Images:
    """An image set whose labels are all of the first class."""

    name, label_sets, official_length, no_instances = "painted", {"many": LABELS}, None, "none"

    def __len__(self) -> int:
        return 2

    def sample(self, index: int) -> ImageSetSample:
        return {
            "image": noise(9, 11),
            "name": str(index),
            "labels": {"many": torch.zeros(9, 11, dtype=torch.int32)},
        }


def test_padding_of_many_classes_is_not_scored():
    batch = ImageSetDataset(_Images())[[PADDING]]
    assert batch["sample_id"].tolist() == [PADDING]
    assert (batch["labels"]["many"][0] == NONE).all()


def test_class_colours_are_distinct_and_differ_from_void():
    colours = class_colours(847, background=None)
    assert len({tuple(colour) for colour in colours.tolist()} - {VOID}) == 847
    np.testing.assert_array_equal(
        class_colours(254, background=None), class_colours(847, background=None)[:254]
    )
    painted = colour_map(colours, unnamed=[VOID])
    pixels = np.array([[colours[846], colours[255], VOID]], dtype=np.uint8)
    assert painted(pixels, path=Path("m.png")).tolist() == [[846, 255, NONE]]
