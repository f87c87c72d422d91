"""Draw a batch of training pairs as one picture.  S image side in pixels."""

import textwrap

from matplotlib.figure import Figure

from gestalt.data_modules.loading import ImageTextBatch
from gestalt.data_modules.pixels.bad_samples import REASONS

LEAST_CELL, DPI = 160, 100
"""Smallest side of an image on the sheet, and pixels an inch."""

LETTERS, LINES = 30, 4
"""Most letters of a line, and lines, of a caption."""


def contact_sheet(batch: ImageTextBatch, *, title: str, columns: int) -> Figure:
    """Draw each image of a batch, enlarged if it is small, below its caption, or the reason of a
    bad pair.

    Args:
        batch: pairs to draw.
        title: text above the images.
        columns: number of images in a row.
    """
    count = len(batch["text"])
    columns = min(columns, count)
    rows = -(-count // columns)
    cell = max(LEAST_CELL, batch["image"].shape[-1]) / DPI
    figure = Figure(
        figsize=(max(columns * (cell + 0.6), 7), rows * (cell + 1.2) + 1),
        dpi=DPI,
        layout="constrained",
    )
    figure.suptitle(title, fontsize=9, parse_math=False)
    for number in range(count):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.axis("off")
        text, colour = batch["text"][number], "black"
        if batch["valid"][number]:
            axes.imshow(batch["image"][number].permute(1, 2, 0).numpy(), interpolation="nearest")
        else:
            reason = REASONS[int(batch["reason"][number])]
            text, colour = f"{reason}: {batch['place'][number]}", "firebrick"
            axes.plot([0, 1], [0, 1], color=colour)
        lines = textwrap.wrap(text, LETTERS, max_lines=LINES, placeholder=" …")
        origin = f"sample {int(batch['sample_id'][number])}, epoch {int(batch['epoch'][number])}"
        axes.set_title("\n".join([*lines, origin]), fontsize=7, color=colour, parse_math=False)
    return figure
