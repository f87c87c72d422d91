"""Baselines: what an mIoU stands beside."""

import pytest
import torch

from gestalt.evaluation.baselines import constant, overlap, patch_oracle, shuffled_classes
from gestalt.evaluation.prompts import ClassEmbeddings, class_embeddings
from gestalt.evaluation.protocols import build_protocol
from gestalt.evaluation.top_down import top_down
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted, striped_label


def prompts_of(classes: list[int]) -> ClassEmbeddings:
    """Prompts whose vectors nobody reads."""
    return ClassEmbeddings(torch.zeros(len(classes), 1), class_index=torch.tensor(classes), background=None)


def test_constant_says_one_thing_in_the_labels_shape() -> None:
    assert constant(torch.tensor([[3, 255]], dtype=torch.uint8), index=2).tolist() == [[2, 2]]


@pytest.mark.parametrize("count", [2, 3, 21, 150])
def test_shuffled_text_leaves_no_class_its_own_prompts(count: int) -> None:
    table = shuffled_classes(count, prompts=prompts_of([*range(count), 0, 1]))
    assert sorted(table.tolist()) == list(range(count))
    assert (table != torch.arange(count)).all()
    assert torch.equal(table, shuffled_classes(count, prompts=prompts_of(list(range(count)))))


def test_shuffled_text_is_what_prompts_in_other_hands_predict() -> None:
    protocol = build_protocol("whole_square", input_size=32)
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol)
    table = shuffled_classes(4, prompts=prompts)
    image = painted(blocky_label(8, 8, block=4, seed=0))
    swapped = prompts._replace(class_index=table[prompts.class_index].long())
    straight, other = (top_down(PaintedModel(), [image], prompts=each, protocol=protocol)[0].prediction for each in (prompts, swapped))
    assert torch.equal(table[straight.long()], other)


def test_a_background_by_threshold_keeps_its_place() -> None:
    table = shuffled_classes(4, prompts=prompts_of([1, 2, 3]))
    assert table[0] == 0
    assert (table[1:] != torch.arange(1, 4)).all()


def test_the_patch_oracle_is_perfect_on_stripes_along_its_cells() -> None:
    for upright in (True, False):
        label = striped_label(5, 7, block=8, seed=0, upright=upright)
        assert torch.equal(patch_oracle(label, grid=(5, 7)), label)


def test_the_patch_oracle_of_a_coarser_grid_is_worse_and_beats_one_class() -> None:
    label = blocky_label(8, 8, block=8, seed=0)
    right = [float((patch_oracle(label, grid=(side, side)) == label).float().mean()) for side in (64, 8, 2)]
    commonest = float(torch.bincount(label.flatten().long()).max()) / label.numel()
    assert 1 == right[0] > right[1] > right[2] > commonest


def test_the_patch_oracle_has_the_grid_the_right_way_round() -> None:
    label = torch.arange(8, dtype=torch.uint8).repeat(2, 1).repeat_interleave(4, 1)  # (2, 32), eight stripes
    assert torch.equal(patch_oracle(label, grid=(2, 8)), label)
    assert not torch.equal(patch_oracle(label, grid=(8, 2)), label)


def test_the_patch_oracle_leaves_ignored_pixels_out() -> None:
    label = torch.full((8, 8), 255, dtype=torch.uint8)
    label[:4, 0], label[4:, 0] = 1, 2  # one column knows; the rest of each cell is void
    prediction = patch_oracle(label, grid=(2, 1))
    assert torch.equal(prediction[:, 0], label[:, 0])


def test_the_patch_oracle_of_nothing_is_nothing() -> None:
    label = torch.full((3, 5), 255, dtype=torch.uint8)
    assert torch.equal(patch_oracle(label, grid=(2, 2)), label)


def test_the_patch_oracle_needs_no_more_than_the_classes_present() -> None:
    label = torch.tensor([[200, 7]], dtype=torch.uint8)
    assert patch_oracle(label, grid=(1, 2)).tolist() == [[200, 7]]


@pytest.mark.parametrize(("side", "cells"), [(8, 2), (33, 4), (50, 7), (3, 5), (1, 1)])
def test_cells_share_out_every_pixel_exactly(side: int, cells: int) -> None:
    weights = overlap(side, cells=cells, device=torch.device("cpu"))
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(side))
    torch.testing.assert_close(weights.sum(dim=1), torch.full((cells,), side / cells))
