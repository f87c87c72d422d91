"""Predicted class maps of a set, written as PNGs that ``gestalt score`` and other evaluators
read.  C classes, H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gestalt.data_modules.batches import PADDING
from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.evaluation.pictures import map_image
from gestalt.support.files import replacing

STATEMENT = "predictions.json"
"""The file beside the maps that states what made them; written last."""


@dataclass
class LabelMaps:
    """A folder of class maps, ``<image name>.png``, with a sub-folder where the name has one.

    The values are class indices; for no class 255, or 65535 in the 16-bit maps of more than 255
    classes.

    Attributes:
        folder: made if missing.
        labels: the classes.
    """

    folder: Path
    labels: LabelSet

    def write(self, batch: Mapping[str, Any], predictions: Sequence[Tensor]) -> None:
        """Write the maps (H, W) of a batch, without padding."""
        for name, index, prediction in zip(
            batch["name"], batch["sample_id"].tolist(), predictions, strict=True
        ):
            if index == PADDING:
                continue
            picture = map_image(
                prediction.cpu().numpy(),
                classes=len(self.labels.names),
                background=self.labels.background,
            )
            with replacing(self.folder / f"{name}.png") as partial:
                picture.save(partial, format="PNG")
