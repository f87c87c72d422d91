"""Pictures: the VOC colours, overlays, and panels of a readable size."""

import numpy as np
import pytest
import torch

from gestalt.measures.evaluation.pictures import (
    MAX_WIDTH,
    PANEL,
    VOID,
    ScoredImage,
    class_colours,
    overlay,
    segmentation_panels,
    voc_colours,
)
from tests.gestalt.painted import NAMES, painted
from tests.gestalt.panels import first_size, panels


def test_colours_are_those_of_pascal_voc():
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        5: (128, 0, 128),
        20: (0, 64, 128),
    }
    colours = voc_colours(256)
    assert {index: tuple(colours[index].tolist()) for index in known} == known
    assert tuple(colours[255].tolist()) == (224, 224, 192)


def test_the_background_is_black_and_class_colours_are_distinct():
    for background in (None, 0, 3):
        colours = class_colours(21, background=background)
        assert len({tuple(colour) for colour in colours.tolist()}) == 21
        assert [index for index, colour in enumerate(colours.tolist()) if colour == [0, 0, 0]] == (
            [] if background is None else [background]
        )
        assert VOID not in map(tuple, class_colours(300, background=background).tolist())
    np.testing.assert_array_equal(class_colours(21, background=0), voc_colours(21))


def test_an_overlay_blends_colours_except_on_void_pixels():
    image = torch.full((3, 1, 2), 100, dtype=torch.uint8)
    colours = np.array([[200, 0, 100]], dtype=np.uint8)
    mixed = np.array(overlay(image, torch.tensor([[0, 255]]), colours=colours, alpha=0.5))
    assert mixed.tolist() == [[[150, 50, 100], [100, 100, 100]]]
    assert np.array(
        overlay(image, torch.tensor([[255, 255]]), colours=colours, alpha=1, void=True)
    )[0, 0].tolist() == [224, 224, 192]


@pytest.mark.parametrize("size", [(700, 300), (16, 400)])
def test_panels_have_the_full_height_or_the_largest_width_whatever_the_image(size):
    label = torch.zeros(size, dtype=torch.uint8)
    label[: size[0] // 2] = 1
    page = segmentation_panels(
        ScoredImage(0, "x", painted(label), prediction=label, label=label),
        names=NAMES,
        background=0,
    )
    width, height = first_size(page)
    assert width == MAX_WIDTH or height == PANEL
    assert (width, height) == (
        min(MAX_WIDTH, round(PANEL * size[1] / size[0])),
        min(PANEL, round(MAX_WIDTH * size[0] / size[1])),
    )
    assert page.height >= PANEL >= 256
    assert 3 * width < page.width <= 3 * width + PANEL + 400


def mixed(grey: int, colours: object) -> list[list[int]]:
    """Colours as they are laid over a grey image."""
    return (0.5 * grey + 0.5 * np.array(colours, dtype=np.float32)).round().tolist()


def test_a_prediction_and_a_truth_of_another_size_than_the_image_are_drawn_over_it():
    truth = torch.zeros(20, 30, dtype=torch.uint8)
    truth[:, 15:] = 1
    prediction = truth.clone()
    prediction[:10] = 3
    image = torch.full((3, 10, 15), 100, dtype=torch.uint8)
    page = segmentation_panels(
        ScoredImage(0, "x", image, prediction=prediction, label=truth), names=NAMES, background=0
    )
    # a pixel of each location of the truth
    shown, predicted, true = (panel[8::16, 8::16] for panel in panels(page, size=(480, 320)))
    colours = np.array(mixed(100, class_colours(4, background=0)))
    colours[0] = 100  # the background is not painted
    assert (shown == 100).all()
    np.testing.assert_array_equal(predicted, colours[prediction.numpy()])
    np.testing.assert_array_equal(true, colours[truth.numpy()])
