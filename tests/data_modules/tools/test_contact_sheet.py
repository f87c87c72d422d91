"""A sheet shows what a batch holds."""

import numpy as np

from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.tools.contact_sheet import contact_sheet
from tests.data_modules.tools.planted import GOOD_PAIRS, planted


def test_a_contact_sheet_shows_every_valid_image_and_marks_bad_ones():
    data = ImageTextDataModule(planted(GOOD_PAIRS), size=16, batch_size=4, workers=0, seed=0)
    batch = next(iter(data.train_dataloader()))
    sheet = contact_sheet(batch, title="one", columns=3)
    sheet.canvas.draw()
    assert len(sheet.axes) == 4
    for number, axes in enumerate(sheet.axes):
        if batch["valid"][number]:
            (shown,) = axes.images
            assert np.array_equal(
                shown.get_array(), batch["image"][number].permute(1, 2, 0).numpy()
            )
            assert axes.get_title().split("\n")[0] == batch["text"][number]
        else:
            assert not axes.images
            assert axes.get_title().startswith("truncated: a shard")
