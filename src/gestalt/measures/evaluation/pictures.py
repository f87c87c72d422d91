"""Pictures of a segmentation: image, prediction, truth, legend.  H W pixels; images and masks are
tensors on the CPU, or arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gestalt.measures.evaluation.confusion import iou_of, pixel_counts
from gestalt.measures.evaluation.predictions import ScoredImage
from gestalt.support.arrays import Array, Pixels
from gestalt.support.label_values import NARROW, ignored_value

PANEL = 320
"""Height of a panel in pixels."""

MAX_WIDTH = 2 * PANEL
"""Largest width of a panel in pixels; wider pictures are scaled down to it."""

FONT_SIZE = 15
MARGIN = 10
PAPER = (255, 255, 255)
INK = (20, 20, 20)
VOID = (224, 224, 192)
"""VOC's cream for pixels that are not scored."""


def voc_colours(count: int) -> Pixels:
    """Return the first colours of the VOC map, (count, 3): the bits of the index, dealt to red,
    green, blue in turn, high bits first.

    Source: the development kit of PASCAL VOC 2012.
    """
    bits = np.arange(count)[:, None] >> np.arange(24) & 1  # lowest first
    values = 128 >> np.arange(8)
    return (bits.reshape(count, 8, 3) * values[:, None]).sum(axis=1, dtype=np.uint8)


def class_colours(count: int, background: int | None) -> Pixels:
    """Return one colour per class, (count, 3): the background is black; the others take the VOC map
    in order, from its second colour on.

    ``VOID``, which the map has at 255, is left out.
    """
    colours = np.delete(voc_colours(count + 2 + NARROW), NARROW, axis=0)[1 : count + 1]
    if background is None:
        return colours
    return np.insert(colours[:-1], background, 0, axis=0)


def map_image(values: Array, *, classes: int, background: int | None) -> Image.Image:
    """Return a map (H, W) as a picture of its values: indexed by the classes' colours, ``VOID`` for
    no class; of more than 255 16-bit grey.

    A palette has 256 places, so the 16-bit map has no colours; its value for no class is 65535.
    """
    if classes > NARROW:
        return Image.fromarray(values.astype(np.uint16))
    palette = np.full((NARROW + 1, 3), VOID, dtype=np.uint8)
    palette[:classes] = class_colours(classes, background)
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette(palette.tobytes())
    return picture


def overlay(
    image: Any,
    mask: Any,
    *,
    colours: Pixels,
    alpha: float = 0.6,
    void: bool = False,
) -> Image.Image:
    """Lay a mask's colours over its image.

    Args:
        image: (3, H, W) uint8; of another size than the mask it is resized.
        mask: (H, W) integers; the ``ignored_value`` of C leaves the image as it is.
        colours: (C, 3) uint8.
        alpha: share of the colour, [0, 1].
        void: paint that value in cream instead.
    """
    classes = np.asarray(mask)
    rows, columns = classes.shape
    pixels = np.asarray(
        pil_image(image).resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.float32
    )
    ignored = ignored_value(len(colours))
    table = np.full((ignored + 1, 3), VOID, dtype=np.float32)
    table[: len(colours)] = colours
    mixed = (1 - alpha) * pixels + alpha * table[classes]
    if not void:
        mixed = np.where((classes == ignored)[..., None], pixels, mixed)
    return Image.fromarray(mixed.round().astype(np.uint8))


def render_segmentation(
    image: Any,
    mask: Any,
    names: Sequence[str],
    *,
    background: int | None = None,
    caption: str = "",
    alpha: float = 0.6,
) -> Image.Image:
    """Draw a mask over its image (3, H, W) uint8 beside the names of the classes in it, largest
    first, with their share of the pixels.
    """
    colours = class_colours(len(names), background)
    values = np.asarray(mask)
    pixels = np.bincount(values.ravel(), minlength=len(names))[: len(names)]
    entries = [
        (names[index], f"{100 * (pixels[index] / values.size):.0f} %", colours[index])
        for index in np.argsort(-pixels, kind="stable")
        if pixels[index]
    ]
    panel = scale_to_panel(overlay(image, mask, colours=colours, alpha=alpha), smooth=True)
    return in_row({"": panel}, entries=entries, caption=caption)


def segmentation_panels(
    scored: ScoredImage, names: Sequence[str], background: int | None
) -> Image.Image:
    """Draw image, prediction, truth and a legend with the IoU of each class in this image; the
    caption has the image's mean.

    Args:
        scored: class maps; another size than the image's is allowed.
        names: C names.
        background: the class that is painted black, if any.
    """
    colours = class_colours(len(names), background)
    prediction, label = np.asarray(scored.prediction), np.asarray(scored.label)
    counts = pixel_counts(prediction, label, classes=len(names))
    iou = iou_of(counts)
    largest_first = np.argsort(-(counts[1] + counts[2]), kind="stable")
    present = largest_first[~np.isnan(iou[largest_first])]
    entries = [(names[index], f"{iou[index]:.2f}", colours[index]) for index in present]
    panels = {
        "image": scale_to_panel(pil_image(scored.image), smooth=True),
        "prediction": paint(scored.image, prediction, colours=colours),
        "truth": paint(scored.image, label, colours=colours, void=True),
    }
    mean = (
        f"mean IoU of this image {iou[present].mean():.2f}" if len(present) else "nothing labelled"
    )
    accuracy = f", pixels right {counts[0].sum() / counts[2].sum():.2f}" if counts[2].sum() else ""
    return in_row(panels, entries=entries, caption=f"{scored.title}: {mean}{accuracy}")


def pil_image(image: Any) -> Image.Image:
    """Return an image (3, H, W) uint8 as Pillow's."""
    return Image.fromarray(np.asarray(image).transpose(1, 2, 0))


def paint(image: Any, mask: Any, **options: Any) -> Image.Image:
    """Draw a panel: a mask over its image, at the mask's size, by ``overlay`` with ``options``."""
    return scale_to_panel(overlay(image, mask, **options), smooth=False)


def scale_to_panel(picture: Image.Image, *, smooth: bool) -> Image.Image:
    """Scale to the height of a panel; nearest neighbour when masks grow, so that their pixels stay
    visible.
    """
    smooth = smooth or picture.height > PANEL or picture.width > MAX_WIDTH
    return ImageOps.contain(
        picture,
        (MAX_WIDTH, PANEL),
        Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST,
    )


def in_row(
    panels: Mapping[str, Image.Image],
    *,
    entries: Sequence[tuple[str, str, Pixels]],
    caption: str,
) -> Image.Image:
    """Draw panels side by side under their titles, a legend on the right, the caption below.

    Args:
        panels: by title.
        entries: name, number and colour of each line of the legend, which has as many columns as
            the height needs.
        caption: one line; empty for none.
    """
    font = ImageFont.load_default(size=FONT_SIZE)
    line, swatch = FONT_SIZE + 8, FONT_SIZE + 2
    texts = [f"{name}  {number}" for name, number, _ in entries]
    lines = PANEL // line
    column = swatch + 8 + max([int(font.getlength(text)) for text in texts], default=0) + 2 * MARGIN
    columns = max(1, -(-len(texts) // lines))
    left, top = MARGIN, MARGIN + (line if any(panels) else 0)
    legend = left + sum(panel.width + MARGIN for panel in panels.values())
    width = max(legend + columns * column + MARGIN, int(font.getlength(caption)) + 2 * MARGIN)
    height = top + PANEL + MARGIN + (line if caption else 0)
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.font = font
    for title, panel in panels.items():
        draw.text((left, MARGIN - 2), title, fill=INK)
        page.paste(panel, (left, top))
        left += panel.width + MARGIN
    for position, (text, (_, _, colour)) in enumerate(zip(texts, entries, strict=True)):
        x, y = legend + (position // lines) * column, top + (position % lines) * line
        draw.rectangle((x, y, x + swatch, y + swatch), fill=tuple(colour.tolist()), outline=INK)
        draw.text((x + swatch + 8, y), text, fill=INK)
    draw.text((MARGIN, height - line), caption, fill=INK)
    return page
