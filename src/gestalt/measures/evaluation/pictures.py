"""Images of a set with their predictions: drawn as pictures of image, prediction, truth and legend,
or kept as arrays: those that a run draws, and its best and worst ones.  H W pixels; images and
masks are tensors on the CPU, or arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gestalt.measures.evaluation.confusion import iou_of, pixel_counts
from gestalt.support.arrays import Array, Pixels, read_arrays, write_arrays
from gestalt.support.files import short_digest
from gestalt.support.label_values import NARROW, ignored_value

EXTREMES = "extremes"
"""The folder of the best and worst images, beside the arrays of a result."""

STATEMENT = "predictions.json"
"""The file beside written class maps that states what made them; written last."""

PARTS = ("image", "prediction", "label")
"""Arrays of a kept image."""


class ScoredImage(NamedTuple):
    """An image of a set with its prediction and label: tensors, or a file's arrays.

    Attributes:
        sample_id: its index in the set.
        title: its title.
        image: (3, H, W) uint8.
        prediction: (H, W) integers, or (n, H, W) bool for groups that overlap.
        label: (H, W) integers.
    """

    sample_id: int
    title: str
    image: Any
    prediction: Any
    label: Any

    @classmethod
    def of(
        cls, batch: Mapping[str, Any], position: int, predictions: Any, labels: Any
    ) -> "ScoredImage":
        """Take an image of a batch, with its prediction and label, which are not copied."""
        return cls(
            int(batch["sample_id"][position]),
            batch["name"][position],
            batch["image"][position],
            predictions[position],
            labels[position],
        )

    def copied(self, copy: Callable[[Any], Any]) -> "ScoredImage":
        """Return copies of the tensors: by ``Tensor.clone`` on their devices, so that the batch
        need not stay, or by ``Tensor.cpu``.
        """
        image, prediction, label = map(copy, self[2:])
        return self._replace(image=image, prediction=prediction, label=label)


class Predictions(NamedTuple):
    """The kept images of one set.

    Attributes:
        names: class names.
        background: the class that is painted black, or None.
        images: in order of image id.
    """

    names: tuple[str, ...]
    background: int | None
    images: tuple[ScoredImage, ...]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``<folder>/<benchmark>.npz``, over that of an earlier epoch."""
    arrays: dict[str, Array] = {
        "names": np.array(list(predictions.names)),
        "background": np.array(-1 if predictions.background is None else predictions.background),
        "ids": np.array([image.sample_id for image in predictions.images]),
        "titles": np.array([image.title for image in predictions.images]),
    }
    for index, image in enumerate(predictions.images):
        for part in PARTS:
            arrays[f"{index}_{part}"] = np.asarray(getattr(image, part))
    write_arrays(path, arrays)


def read_predictions(path: Path) -> Predictions | None:
    """Read the file of ``write_predictions``; None without a file.

    Raises:
        ValueError: not such a file.
    """
    arrays = read_arrays(path)
    if not arrays:
        return None
    try:
        known = zip(arrays["ids"].tolist(), arrays["titles"].tolist(), strict=True)
        images = tuple(
            ScoredImage(*facts, *(arrays[f"{index}_{part}"] for part in PARTS))
            for index, facts in enumerate(known)
        )
        names, background = tuple(arrays["names"].tolist()), int(arrays["background"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not the predictions of a run ({error}); evaluate again, or restore the file"
        ) from error
    return Predictions(names, None if background < 0 else background, images=images)


PANEL = 320
"""Height of a panel in pixels."""

MAX_WIDTH = 2 * PANEL
"""Largest width of a panel in pixels; wider pictures are scaled down to it."""

FONT_SIZE = 15
MARGIN = 10
BACKGROUND = "background"
"""The label of pixels that are no thing: a protocol's prior weighs it, and it is not painted."""

BRIGHT = np.frombuffer(
    bytes.fromhex(
        "e6194b 3cb44b ffe119 4363d8 f58231 911eb4 42d4f4 f032e6 bfef45 469990 9a6324 000075"
    ),
    dtype=np.uint8,
).reshape(-1, 3)
"""Colours of labels, which are seen over photographs."""

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
    """Return one colour per class, (count, 3): the background is black, which an overlay leaves
    unpainted; the others take the VOC map in order, from its second colour on.

    ``VOID``, which the map has at 255, is left out.
    """
    colours = np.delete(voc_colours(count + 2 + NARROW), NARROW, axis=0)[1 : count + 1]
    if background is None:
        return colours
    return np.insert(colours[:-1], background, 0, axis=0)


def label_colours(labels: Sequence[str]) -> Pixels:
    """Return one colour per label of a user's picture, (K, 3): that of its name in every list of
    few labels, unless an earlier label has taken it; black for ``background``.
    """
    named = [label for label in labels if label != BACKGROUND]
    if len(named) > len(BRIGHT):
        background = labels.index(BACKGROUND) if BACKGROUND in labels else None
        return class_colours(len(labels), background)
    places: dict[str, int] = {}
    for label in named:
        place = int(short_digest(label), 16) % len(BRIGHT)
        while place in places.values():
            place = (place + 1) % len(BRIGHT)
        places[label] = place
    black = np.zeros(3, dtype=np.uint8)
    return np.stack([BRIGHT[places[label]] if label in places else black for label in labels])


def map_image(values: Array, colours: Pixels) -> Image.Image:
    """Return a map (H, W) as a picture of its values: indexed by the colours of C classes, (C, 3),
    ``VOID`` for no class; of more than 255 classes 16-bit grey.

    A palette has 256 places, so the 16-bit map has no colours; its value for no class is 65535.
    """
    if len(colours) > NARROW:
        return Image.fromarray(values.astype(np.uint16))
    palette = np.full((NARROW + 1, 3), VOID, dtype=np.uint8)
    palette[: len(colours)] = colours
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette(palette.tobytes())
    return picture


def overlay(
    image: Any,
    mask: Any,
    *,
    colours: Pixels,
    alpha: float = 0.5,
    void: bool = False,
) -> Image.Image:
    """Lay a mask's colours over its image; black leaves the image as it is.

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
    painted: Any = table.any(axis=1)
    painted[ignored] = void
    mixed = np.where(painted[classes, None], (1 - alpha) * pixels + alpha * table[classes], pixels)
    return Image.fromarray(mixed.round().astype(np.uint8))


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
        fill = tuple(colour.tolist()) if colour.any() else PAPER
        draw.rectangle((x, y, x + swatch, y + swatch), fill=fill, outline=INK)
        draw.text((x + swatch + 8, y), text, fill=INK)
    draw.text((MARGIN, height - line), caption, fill=INK)
    return page
