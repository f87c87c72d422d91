"""Pictures of groups: colours, and panels of a readable size."""

import numpy as np
import pytest
import torch
from PIL import Image

from gestalt.evaluation.pictures import VOID, class_colours, in_row
from gestalt.evaluation.predictions import ScoredImage
from gestalt.measures.grouping.metric import best_overlaps
from gestalt.measures.grouping.pictures import group_colours, grouping_panels
from tests.gestalt.panels import panels


def test_a_group_has_the_colour_of_the_object_it_covers_best() -> None:
    objects = class_colours(4, background=0)
    # value, intersection, union, group
    overlaps = torch.tensor([[0, 50, 100, 2], [1, 80, 100, 5], [3, 20, 100, 5]])
    colours = group_colours(overlaps, objects=objects)
    assert colours[2].tolist() == [0, 0, 0]
    assert colours[5].tolist() == objects[1].tolist()  # 80 of 100, not 20
    others = [
        tuple(colour) for index, colour in enumerate(colours[:9].tolist()) if index not in (2, 5)
    ]
    assert len(set(others)) == len(others)
    assert not {tuple(colour) for colour in objects.tolist()} & set(others)
    assert min(map(min, others)) >= 127


@pytest.mark.parametrize(
    ("value", "truth", "legend"),
    [(255, VOID, []), (0, (0, 0, 0), [("background", "0.67", np.zeros(3, dtype=np.uint8))])],
    ids=["nothing is scored", "background alone"],
)
def test_groups_of_an_image_without_objects_are_drawn_over_an_image_of_another_size(
    value, truth, legend
) -> None:
    instance = torch.full((20, 30), value, dtype=torch.uint8)
    groups = torch.zeros(20, 30, dtype=torch.uint8)
    groups[:, 10:] = 1
    image = torch.full((3, 10, 15), 100, dtype=torch.uint8)
    page = grouping_panels(
        ScoredImage(0, "x", image, prediction=groups, label=instance), candidates=8
    )
    drawn = panels(page, size=(480, 320))
    # a pixel of each location of the groups
    shown, painted_groups, objects = (panel[8::16, 8::16] for panel in drawn)
    colours = group_colours(best_overlaps(groups, instance), objects=class_colours(2, background=0))
    # the larger group has the background's colour
    assert (colours[1].tolist() == [0, 0, 0]) == (value == 0)
    assert (shown == 100).all()
    np.testing.assert_array_equal(
        painted_groups, (40 + 0.6 * colours[groups.numpy()].astype(np.float32)).round()
    )
    np.testing.assert_array_equal(
        objects,
        np.broadcast_to((40 + 0.6 * np.array(truth, dtype=np.float32)).round(), (20, 30, 3)),
    )
    titled = dict(
        zip(("image", "groups, of 8", "objects"), map(Image.fromarray, drawn), strict=True)
    )
    expected = in_row(titled, entries=legend, caption="x: no objects")
    np.testing.assert_array_equal(page, expected)
