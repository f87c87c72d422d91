"""Pictures of groups: colours, and panels of a readable size."""

import pytest
import torch

from gestalt.evaluation.pictures import PANEL, class_colours
from gestalt.measures.grouping.pictures import group_colours, grouping_panels
from tests.gestalt.painted import painted


def test_a_group_has_the_colour_of_the_object_it_covers_best() -> None:
    objects = class_colours(4, background=0)
    overlaps = torch.tensor([[0, 50, 100, 2], [1, 80, 100, 5], [3, 20, 100, 5]])  # value, intersection, union, group
    colours = group_colours(overlaps, objects=objects)
    assert colours[2].tolist() == [0, 0, 0]
    assert colours[5].tolist() == objects[1].tolist()  # 80 of 100, not 20
    others = [tuple(colour) for index, colour in enumerate(colours[:9].tolist()) if index not in (2, 5)]
    assert len(set(others)) == len(others)
    assert not {tuple(colour) for colour in objects.tolist()} & set(others)
    assert min(map(min, others)) >= 127


@pytest.mark.parametrize("size", [(16, 16), (700, 300), (16, 400)])
def test_grouping_panels_are_readable_whatever_the_image(size: tuple[int, int]) -> None:
    instance = torch.zeros(size, dtype=torch.uint8)
    instance[: size[0] // 2] = 1
    instance[0] = 255
    page = grouping_panels(painted(instance), groups=7 - instance.clamp(max=7), instance=instance, candidates=8, title="x")
    assert page.height >= PANEL
    assert page.width <= 7 * PANEL + 400


def test_grouping_panels_draw_what_has_no_objects_and_other_sizes() -> None:
    void = torch.full((20, 30), 255, dtype=torch.uint8)
    for instance in (void, void * 0):
        image = torch.zeros(3, 10, 15, dtype=torch.uint8)
        grouping_panels(image, groups=torch.zeros_like(void), instance=instance, candidates=8, title="x")
