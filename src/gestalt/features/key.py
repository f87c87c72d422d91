"""The description file of a cache of features, and whether it fits a run.  Without torch, so that a mismatch is refused at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gestalt.config.schema import Experiment, refuse
from gestalt.support.files import replacing

FORMAT = 2
FILE = "features.json"

IMAGE = ("backbone", "family", "patch_size", "width", "depth", "heads", "stem", "frozen", "frozen_blocks")
TEXT = ("family", "model", "layers", "width", "heads", "max_length")
CAPTIONS = ("caption", "caption_choice", "caption_template")
"""Keys of ``image``, ``text`` and ``data`` that decide features, besides the weights and the data themselves."""


def image_key(config: Experiment) -> dict[str, Any]:
    """Return the configuration's part of what image features depend on."""
    image = config.image
    return {
        **{f"image.{name}": getattr(image, name) for name in IMAGE},
        "image size": image.train_size if image.subsampling else image.eval_size,
        "share of kept tokens": image.keep_tokens if image.subsampling else 1.0,
        **{"data.crops": config.data.crops, "seed": config.seed, "trainer.precision": config.trainer.precision},
    }


def text_key(config: Experiment) -> dict[str, Any]:
    """Return the configuration's part of what text features depend on; empty if the text tower is trained."""
    if not config.text.frozen:
        return {}
    return {f"text.{name}": getattr(config.text, name) for name in TEXT} | {f"data.{name}": getattr(config.data, name) for name in CAPTIONS}


@dataclass(frozen=True)
class Description:
    """The description file of a cache.

    Attributes:
        image: key -> value that image features depend on.
        text: the same for text features; empty without them.
        epochs: number of epochs whose captions are cached; 0 without text features.
        stored: number format of the files, float32 or float16.
        shape: shape of an image's features.
        computed: number format in which the image tower gave them, to which they are converted again.
        written: images that are written; they are written in order.
        bad: row of each bad image -> reason, where and key.
        complete: True if every file is written.
    """

    image: dict[str, Any]
    text: dict[str, Any]
    epochs: int
    stored: str
    shape: list[int]
    computed: str
    written: int = 0
    bad: dict[str, list[str]] = field(default_factory=dict)
    complete: bool = False

    def write(self, folder: Path) -> None:
        """Write the file."""
        with replacing(folder / FILE) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **vars(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Read the file.

        Raises:
            ConfigError: not a cache.
        """
        try:
            record = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if record.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls(**record)
        except FileNotFoundError:
            refuse("data.features", folder, f"no {FILE} in it; `gestalt features` makes such a folder")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            refuse("data.features", folder, f"{FILE} is not the description of a cache ({error}); make it again by `gestalt features`")

    def differences(self, *, image: Mapping[str, Any], text: Mapping[str, Any], epochs: int = 0) -> list[str]:
        """Return in what the cache differs from what a run wants: each key with both values."""
        wanted = {**image, **({"text.frozen": True} if text and not self.text else text)}
        cached = {**self.image, **(self.text or {"text.frozen": False})}
        found = [f"{key} is {value}, but the cache has {cached.get(key)}" for key, value in wanted.items() if cached.get(key) != value]
        if text and self.text and self.epochs < epochs:
            found.append(f"the run draws captions of {epochs} epochs, but the cache has {self.epochs}")
        return found

    def check(self, folder: Path, *, image: Mapping[str, Any], text: Mapping[str, Any], epochs: int = 0) -> None:
        """Refuse a cache that is incomplete, or was made for another configuration, other weights or other data.

        Raises:
            ConfigError: names each difference.
        """
        found = self.differences(image=image, text=text, epochs=epochs)
        if found:
            mend = "choose the cache's values, or make another by `gestalt features`"
            refuse("data.features", folder, f"made for another run: {'; '.join(found)}; {mend}")
        if not self.complete:
            refuse("data.features", folder, "not complete; run its `gestalt features` command again to complete it")


def check_cache(config: Experiment) -> None:
    """Check ``data.features`` against the configuration; weights and data are compared later.

    Raises:
        ConfigError: not a complete cache, or one of another configuration.
    """
    if config.data.features is not None:
        folder = Path(config.data.features).expanduser()
        Description.read(folder).check(folder, image=image_key(config), text=text_key(config))
