"""Pictures: the VOC colours, overlays, and panels of a readable size."""

import numpy as np
import pytest
import torch

from gestalt.evaluation.pictures import (
    PANEL,
    class_colours,
    overlay,
    render_segmentation,
    segmentation_panels,
    voc_colours,
)
from tests.gestalt.painted import NAMES, blocky_label, painted


def test_colours_are_those_of_pascal_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128), 20: (0, 64, 128)}
    colours = voc_colours(256)
    assert {index: tuple(colours[index].tolist()) for index in known} == known
    assert tuple(colours[255].tolist()) == (224, 224, 192)


def test_the_background_is_black_and_class_colours_are_distinct() -> None:
    for background in (None, 0, 3):
        colours = class_colours(21, background=background)
        assert len({tuple(colour) for colour in colours.tolist()}) == 21
        assert [index for index, colour in enumerate(colours.tolist()) if colour == [0, 0, 0]] == (
            [] if background is None else [background]
        )
    np.testing.assert_array_equal(class_colours(21, background=0), voc_colours(21))


def test_an_overlay_blends_colours_except_on_void_pixels() -> None:
    image = torch.full((3, 1, 2), 100, dtype=torch.uint8)
    colours = np.array([[200, 0, 100]], dtype=np.uint8)
    mixed = np.array(overlay(image, torch.tensor([[0, 255]]), colours=colours, alpha=0.5))
    assert mixed.tolist() == [[[150, 50, 100], [100, 100, 100]]]
    assert np.array(overlay(image, torch.tensor([[255, 255]]), colours=colours, alpha=1, void=True))[0, 0].tolist() == [224, 224, 192]


@pytest.mark.parametrize("size", [(16, 16), (700, 300), (333, 500), (16, 400)])
def test_panels_are_readable_whatever_the_image(size: tuple[int, int]) -> None:
    label = torch.zeros(size, dtype=torch.uint8)
    label[: size[0] // 2] = 1
    page = segmentation_panels(painted(label), prediction=label, truth=label, names=NAMES, background=0, title="x")
    assert page.height >= PANEL >= 256
    assert page.width <= 7 * PANEL + 400


def test_the_picture_has_the_colours_of_present_classes_only() -> None:
    label = blocky_label(4, 4, block=4, seed=0, classes=2)
    page = np.array(render_segmentation(painted(label), label, NAMES)).reshape(-1, 3)
    seen = {tuple(colour) for colour in page.tolist()}
    present, absent = class_colours(4, background=None)[:2].tolist(), class_colours(4, background=None)[2:].tolist()
    assert all(tuple(colour) in seen for colour in present)
    assert not any(tuple(colour) in seen for colour in absent)


def test_a_legend_of_many_classes_stays_inside_the_picture() -> None:
    label = torch.arange(60, dtype=torch.uint8).repeat(8, 1)
    page = render_segmentation(painted(label), label, [f"television monitor {index}" for index in range(60)])
    assert page.height <= PANEL + 60
    ink = np.array(page.convert("L"))[:, -10:]
    assert (ink == 255).all()  # a free margin: nothing was cut off


def test_a_truth_of_another_size_than_the_image_is_drawn() -> None:
    truth = torch.zeros(20, 30, dtype=torch.uint8)
    segmentation_panels(torch.zeros(3, 10, 15, dtype=torch.uint8), prediction=truth, truth=truth, names=NAMES, background=0, title="x")


def test_panels_of_an_image_without_labels_can_be_drawn() -> None:
    void = torch.full((8, 8), 255, dtype=torch.uint8)
    segmentation_panels(painted(void), prediction=torch.zeros_like(void), truth=void, names=NAMES, background=None, title="x")
