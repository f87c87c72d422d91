"""Read and write the description file of a feature cache, and check that the cache fits a run.

torch is not imported, so that a mismatch is refused at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gestalt.config.schema import Experiment
from gestalt.data_modules.opening import may_draw_images
from gestalt.encoders.keys import ARCHITECTURE, Image
from gestalt.support.files import Fields, read_json, write_whole
from gestalt.support.keys import refuse

FORMAT = 2
FILE, IMAGES, SUMS = "features.json", "images.npy", "sums.npy"
"""Files of a cache: its description, the features of images by row, and the CRC-32 of each row."""

IMAGE = (*ARCHITECTURE, "frozen", "frozen_blocks")
"""Keys of ``image`` that determine the features, in addition to the weights and the data."""


def key_of(config: Experiment) -> Fields:
    """Return the settings of the configuration that the features depend on."""
    image, data = config.image, config.data
    seed = {"seed": config.seed} if _draws(config) else {}
    return {
        **{f"image.{name}": getattr(image, name) for name in IMAGE},
        "image size": image.train_size if image.subsampling else image.eval_size,
        "share of kept tokens": kept_share(image),
        "data.crops": data.crops,
        **seed,
        "trainer.precision": config.trainer.precision,
    }


def _draws(config: Experiment) -> bool:
    """Return True if the features depend on the seed: if tokens are dropped, crops are random, or
    the source draws its images.

    A crop of the whole area is the same for every seed, because it does not fit into an image with
    another aspect ratio.
    """
    data = config.data
    crops = min(data.crop_scale) < 1 or data.flip > 0 or data.colour > 0
    return kept_share(config.image) < 1 or crops or may_draw_images(data.source)


def kept_share(image: Image) -> float:
    """Return the share of patch tokens of an image that are kept."""
    return image.keep_tokens if image.subsampling else 1.0


@dataclass(frozen=True)
class Description:
    """The description file of a cache.

    Attributes:
        key: name -> value that the features depend on.
        stored: number format of the file, float32 or float16.
        shape: shape of an image's features.
        computed: number format of the tower's output.  Stored features are converted back to it.
        written: number of images written so far, in order.
        bad: row of each bad image -> the reason, the file and the key of the image.
        complete: True if all images are written.
    """

    key: Fields
    stored: str
    shape: list[int]
    computed: str
    written: int = 0
    bad: dict[str, list[str]] = field(default_factory=dict)
    complete: bool = False

    def write(self, folder: Path) -> None:
        """Write the file."""
        record = {"format": FORMAT, **vars(self)}
        write_whole(folder / FILE, json.dumps(record, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Read the file.

        Raises:
            ConfigError: the folder is not a cache.
        """
        try:
            record = read_json(folder / FILE, "features")
            del record["format"]
            return cls(**record)
        except FileNotFoundError:
            why = f"no {FILE} in it; `gestalt features` makes such a folder"
        except (OSError, ValueError, TypeError) as error:
            why = (
                f"{FILE} is not the description of a cache ({error}); make it again by `gestalt "
                "features`"
            )
        refuse("data.features", folder, why)

    def differences(self, key: Mapping[str, Any]) -> list[str]:
        """Return the differences between the cache and what a run needs: each name with both
        values.
        """
        return [
            f"{name} is {value}, but the cache has {self.key.get(name)}"
            for name, value in key.items()
            if self.key.get(name) != value
        ]

    def check(self, folder: Path, key: Mapping[str, Any]) -> None:
        """Check that a cache is complete, and was made for this configuration, these weights and
        this data.

        Raises:
            ConfigError: names each difference.
        """
        found = self.differences(key)
        if found:
            refuse(
                "data.features",
                folder,
                f"made for another run: {'; '.join(found)}; choose the cache's values, or make "
                "another by `gestalt features`",
            )
        if not self.complete:
            refuse(
                "data.features",
                folder,
                "not complete; run its `gestalt features` command again to complete it",
            )


def check_cache(config: Experiment) -> None:
    """Check ``data.features`` against the configuration.  Weights and data are compared later.

    Raises:
        ConfigError: the folder is not a complete cache, or was made for another configuration.
    """
    if config.data.features is not None:
        folder = Path(config.data.features).expanduser()
        Description.read(folder).check(folder, key_of(config))
