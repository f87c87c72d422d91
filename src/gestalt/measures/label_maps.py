"""Predicted class maps of a set, written as indexed PNGs that ``gestalt score`` and other evaluators read.  C classes, H W pixels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gestalt.evaluation.confusion import UNNAMED
from gestalt.evaluation.pictures import VOID, class_colours
from gestalt.evaluation.prompts import Labels
from gestalt.measures.rows import PADDING
from gestalt.support.files import replacing

STATEMENT = "predictions.json"
"""The file beside the maps that states what made them; written last."""


class LabelMaps:
    """A folder of class maps, ``<image name>.png``, with a sub-folder where the name has one.

    The values are class indices, ``UNNAMED`` for no class; the palette is that of the pictures.

    Args:
        folder: made if missing.
        labels: the classes.
    """

    def __init__(self, folder: Path, *, labels: Labels) -> None:
        self.folder = folder
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(labels.names)] = class_colours(len(labels.names), background=labels.background)
        palette[UNNAMED] = VOID
        self._palette = palette.tobytes()

    def write(self, batch: Mapping[str, Any], predictions: Sequence[Tensor]) -> None:
        """Write the maps (H, W) uint8 of a batch, without padding."""
        for name, index, prediction in zip(batch["name"], batch["sample_id"].tolist(), predictions, strict=True):
            if index == PADDING:
                continue
            picture = Image.fromarray(prediction.cpu().numpy())
            picture.putpalette(self._palette)
            with replacing(self.folder / f"{name}.png") as partial:
                picture.save(partial, format="PNG")
