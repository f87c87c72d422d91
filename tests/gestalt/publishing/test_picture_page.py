"""The page of pictures: whole by itself, and in a browser without a request, by mouse and by
keyboard.
"""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from gestalt.measures.evaluation.pictures import label_colours
from gestalt.measures.segmentation.segmented import SegmentedImage, Similarity
from gestalt.publishing.picture_page import page_entry, titles, write_page
from tests.gestalt.browser import browsing, needs_chromium
from tests.gestalt.painted import random_pixels
from tests.gestalt.results.test_report import checked

LABELS = ("a<b & 'c'", "grass")


def result(labels=LABELS, *, size=(40, 60), heat=True):
    """A picture whose left half has the first label and whose right half the second."""
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[:, size[1] // 2 :] = 1
    similarity = (
        torch.linspace(-0.1, 0.3, len(labels) * 6).reshape(len(labels), 2, 3)
        if heat
        else torch.empty(0, 1, 1)
    )
    scores = {label: Similarity(0.1, 0.2) for label in labels} if heat else {}
    areas = dict.fromkeys(labels, 0.5)
    return SegmentedImage(labels, mask, scores, areas, random_pixels(3, *size), similarity)


def shown():
    return {"labels": result(), "groups": result(("group 1", "group 2"), heat=False)}


@pytest.fixture
def page(tmp_path):
    """Two models, two pictures, labels and groups."""
    entries = [page_entry(name, [shown(), shown()]) for name in ("one<i>", "two")]
    write_page(tmp_path / "page.html", entries, ["first", "second"])
    return tmp_path / "page.html"


def images(text, name):
    """The embedded pictures of a class."""
    for data in re.findall(rf'<img class="{name}"[^>]*src="data:image/\w+;base64,([^"]+)"', text):
        yield Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_page_is_escaped_and_self_contained(page):
    text = page.read_text()
    elements = checked(text.partition("<script>")[0] + "</body></html>")
    assert all(source.startswith("data:image/") for source in elements.sources)
    assert not re.findall(r"""(?:src|href)=["']?(?!data:|")|url\(|@import|https?://""", text)
    assert "<i>" not in text.replace("<i></i>", "")
    assert "default-src 'none'" in text
    assert len(elements.ids) == len(set(elements.ids))


def test_a_mask_covers_the_pixels_of_its_label(page):
    left, right, *_ = images(page.read_text(), "mask")
    assert left.size == (60, 40)
    assert (np.asarray(left.convert("RGBA"))[..., 3] > 0)[:, :30].all()
    assert not (np.asarray(left.convert("RGBA"))[..., 3] > 0)[:, 30:].any()
    pixels = np.asarray(right.convert("RGBA"))
    assert (pixels[:, 30:] == (*label_colours(result().labels)[1], 255)).all()
    assert not pixels[:, :30, 3].any()


def test_heat_maps_share_a_scale_from_the_least_to_the_largest_similarity(page):
    first, second, *_ = images(page.read_text(), "heat")
    assert first.size == second.size == (3, 2)
    shades = np.concatenate([np.asarray(first).flat, np.asarray(second).flat])
    # twelve even steps over both maps
    np.testing.assert_allclose(shades, np.linspace(0, 255, 12), atol=1)
    assert {"-0.100", "0.300"} <= set(re.findall(r"-?\d\.\d{3}", page.read_text()))


def test_a_large_picture_is_scaled_down_and_the_page_says_so(tmp_path):
    entry = page_entry("large", [{"labels": result(size=(30, 3000))}])
    write_page(tmp_path / "page.html", [entry], ["model"])
    text = (tmp_path / "page.html").read_text()
    assert "3000 x 30 pixels, shown at 1024 x 10" in text
    assert {image.size for kind in ("base", "mask") for image in images(text, kind)} == {(1024, 10)}


@needs_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_the_page_fits_and_asks_for_nothing(page, width):
    with browsing() as tab:
        tab.open(page.as_uri(), width=width)
        assert (tab.requests, tab.complaints) == ([page.as_uri()], [])
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.run(
            "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        )
        assert tab.run(
            "[...document.querySelectorAll('button')].every((b) => b.innerText.trim() || "
            "b.ariaLabel || b.closest('[hidden]'))"
        )


def visible(kind):
    """JavaScript for the numbers of the pictures of a kind that the first view shows."""
    return (
        f"[...document.querySelector('section:not([hidden]) .stack').querySelectorAll('.{kind}')]"
        ".filter((e) => getComputedStyle(e).display !== 'none').map((e) => e.dataset.set + "
        "e.dataset.index)"
    )


@needs_chromium
def test_pointing_shows_a_heat_map_and_clicking_keeps_it(page):
    with browsing() as tab:
        tab.open(page.as_uri())
        assert tab.run(visible("mask")) == ["labels0", "labels1"]
        tab.point('section:not([hidden]) .hot[data-index="1"]')
        assert (tab.run(visible("heat")), tab.run(visible("mask"))) == (["labels1"], [])
        tab.point("h1")
        assert (tab.run(visible("heat")), tab.run(visible("mask"))) == ([], ["labels0", "labels1"])
        tab.point('section:not([hidden]) .hot[data-index="0"]', click=True)
        tab.point("h1")
        assert tab.run(visible("heat")) == ["labels0"]
        tab.press("Escape")
        assert (tab.run(visible("heat")), tab.complaints) == ([], [])


@needs_chromium
def test_everything_is_reached_by_keyboard_with_its_focus_visible(page):
    with browsing() as tab:
        tab.open(page.as_uri())
        tab.press("Tab")
        assert tab.run("document.activeElement.title") == "one<i>"
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.press("ArrowRight")
        assert tab.run("document.querySelector('section:not([hidden]) h2').textContent") == "two"
        tab.press("Tab")
        tab.press("ArrowRight")
        assert tab.run(visible("mask")) == ["groups0", "groups1"]
        tab.press("ArrowLeft")
        for _ in range(3):
            tab.press("Tab")
        assert tab.run("document.activeElement.textContent") == LABELS[0]
        tab.press(" ")
        assert tab.run(visible("mask")) == ["labels1"]
        assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "false"
        tab.press("Enter")
        assert tab.run(visible("mask")) == ["labels0", "labels1"]
        tab.press("Tab")
        tab.press(" ")
        assert tab.run(visible("heat")) == ["labels0"]


@pytest.mark.parametrize(
    ("models", "shown"),
    [
        (
            ["/a/lightning_logs/x/demo/version_3", "/a/a model", "timm:/a/vit", "org/name"],
            ["x/demo/version_3", "a model", "timm:vit", "org/name"],
        ),
        (["/a/exported", "/b/exported", "/b/other"], ["/a/exported", "/b/exported", "other"]),
    ],
)
def test_models_have_short_titles_unless_these_are_equal(models, shown):
    assert titles(models) == shown
