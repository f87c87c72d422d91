"""Pictures of groups: colours, and panels of a readable size."""

import torch

from gestalt.measures.evaluation.pictures import class_colours
from gestalt.measures.grouping.callback import painted_groups


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
