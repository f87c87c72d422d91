"""Baselines that an mIoU is compared with."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.evaluation.prompts import ClassEmbeddings, class_embeddings
from gestalt.measures.grouping.callback import best_overlaps
from gestalt.measures.segmentation.baselines import (
    object_oracle,
    overlap,
    patch_oracle,
    shuffled_classes,
)
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted, striped_label


def prompts_of(classes: list[int]) -> ClassEmbeddings:
    """Prompts whose vectors nobody reads."""
    return ClassEmbeddings(
        torch.zeros(len(classes), 1),
        class_index=torch.tensor(classes),
        background=None,
        classes=max(classes) + 1,
    )


@pytest.mark.parametrize("count", [2, 3, 21, 150])
def test_shuffled_text_gives_every_class_the_prompts_of_another(count):
    table = shuffled_classes(count, prompts=prompts_of([*range(count), 0, 1]))
    assert sorted(table.tolist()) == list(range(count))
    assert (table != np.arange(count)).all()
    assert table.tolist() == shuffled_classes(count, prompts_of(list(range(count)))).tolist()


def test_shuffled_text_equals_predicting_with_permuted_prompts():
    protocol = top_down_protocol("whole_square", input_size=32)
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol)
    table = torch.from_numpy(shuffled_classes(4, prompts=prompts))
    image = painted(blocky_label(8, 8, seed=0))
    swapped = prompts._replace(class_index=table[prompts.class_index])
    straight, other = (
        top_down(PaintedModel(), [image], prompts=each, protocol=protocol)[0].prediction
        for each in (prompts, swapped)
    )
    assert torch.equal(table[straight.long()], other.long())


def test_the_patch_oracle_is_perfect_on_stripes_along_its_cells():
    for upright in (True, False):
        label = striped_label(5, 7, block=8, seed=0, upright=upright)
        assert torch.equal(patch_oracle(label, grid=(5, 7)), label)


def test_the_patch_oracle_leaves_ignored_pixels_out():
    label = torch.full((8, 8), 255, dtype=torch.uint8)
    label[:4, 0], label[4:, 0] = 1, 2  # one column knows; the rest of each cell is void
    prediction = patch_oracle(label, grid=(2, 1))
    assert torch.equal(prediction[:, 0], label[:, 0])


def object_iou(instance: Tensor, *, grid: tuple[int, int]) -> list[float]:
    """Each value's IoU with the oracle's masks."""
    overlaps = best_overlaps(object_oracle(instance, grid=grid), instance)
    return (overlaps[:, 1] / overlaps[:, 2]).tolist()


def test_the_object_oracle_is_perfect_on_stripes_along_its_cells_and_on_pixels():
    stripes, anything = striped_label(5, 7, block=8, seed=0), blocky_label(9, 5, block=1, seed=1)
    for label, grid in ((stripes, (5, 7)), (anything, (9, 5))):
        masks = object_oracle(label, grid=grid)
        assert torch.equal(masks, label == label.unique().reshape(-1, 1, 1))


def test_the_object_oracle_does_not_lose_an_object_smaller_than_its_cells():
    label = torch.zeros(16, 16, dtype=torch.uint8)
    label[5:8, 5:8] = 1
    assert object_iou(label, grid=(2, 2))[1] > 0.8 * 9 / 64  # about that of its cell
    assert 1 not in patch_oracle(label, grid=(2, 2))


def test_the_object_oracle_leaves_ignored_pixels_out():
    label = torch.full((8, 8), 255, dtype=torch.uint8)
    label[:4, 0], label[4:, 0] = 1, 2
    assert object_iou(label, grid=(2, 1)) == [1, 1]
    assert object_oracle(torch.full((3, 5), 255, dtype=torch.uint8), grid=(2, 2)).shape == (0, 3, 5)


@pytest.mark.parametrize(("side", "cells"), [(8, 2), (33, 4), (50, 7), (3, 5), (1, 1)])
def test_cell_weights_of_every_pixel_sum_to_one(side, cells):
    weights = overlap(side, cells=cells)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(side))
    torch.testing.assert_close(weights.sum(dim=1), torch.full((cells,), side / cells))
