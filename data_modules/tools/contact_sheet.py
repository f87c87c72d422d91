"""Contact sheet: a batch of training pairs as one picture, images with captions.  S image side in pixels."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from data_modules.batches import ImageTextBatch
from data_modules.corpora.bad_samples import REASONS

LEAST_CELL, LINES, GAP, MARGIN, LINE_HEIGHT = 160, 4, 12, 20, 17  # pixels, except LINES
PAPER, INK, QUIET, BAD, VOID = "white", (25, 25, 25), (120, 120, 120), (176, 30, 30), (238, 238, 238)


def contact_sheet(batch: ImageTextBatch, *, title: Sequence[str], columns: int) -> Image.Image:
    """Draw each image of a batch, enlarged by a whole factor if it is small, above its caption, or the reason of a bad pair.

    Args:
        batch: pairs to draw.
        title: lines above the images.
        columns: number of images in a row.
    """
    side = batch["image"].shape[-1]
    cell = side * max(1, -(-LEAST_CELL // side))
    count = len(batch["text"])
    columns, rows = min(columns, count), -(-count // min(columns, count))
    font, small = ImageFont.load_default(13), ImageFont.load_default(12)
    head, step = MARGIN + len(title) * LINE_HEIGHT + GAP, cell + (LINES + 1) * LINE_HEIGHT + GAP
    sheet = Image.new("RGB", (2 * MARGIN + columns * (cell + GAP) - GAP, head + rows * step + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(title):
        draw.text((MARGIN, MARGIN + number * LINE_HEIGHT), line, fill=INK, font=font)
    for number in range(count):
        left, top = MARGIN + number % columns * (cell + GAP), head + number // columns * step
        if batch["valid"][number]:
            image = Image.fromarray(batch["image"][number].permute(1, 2, 0).numpy())
            sheet.paste(image.resize((cell, cell), Image.Resampling.NEAREST), (left, top))
            text, colour = batch["text"][number], INK
        else:
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=VOID, outline=BAD)
            draw.line((left, top, left + cell - 1, top + cell - 1), fill=BAD)
            text, colour = f"{REASONS[int(batch['reason'][number])]}: {batch['place'][number]}", BAD
        _write(draw, text, at=(left, top + cell + 3), width=cell, font=font, colour=colour)
        origin = f"sample {int(batch['sample_id'][number])}, epoch {int(batch['epoch'][number])}"
        draw.text((left, top + cell + 3 + LINES * LINE_HEIGHT), origin, fill=QUIET, font=small)
    return sheet


def _write(draw: ImageDraw.ImageDraw, text: str, *, at: tuple[int, int], width: int, font: "_Font", colour: "_Colour") -> None:
    """Draw a text in at most ``LINES`` lines, with an ellipsis if it is longer."""
    letters = max(8, int(width / draw.textlength("n", font=font)))
    for number, line in enumerate(textwrap.wrap(text, letters, max_lines=LINES, placeholder=" …")):
        draw.text((at[0], at[1] + number * LINE_HEIGHT), line, fill=colour, font=font)


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Colour = tuple[int, int, int]
