"""Keys of cached features, and the description file of a cache.  Without torch, so that a mismatch is refused at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestalt.config.schema import Experiment, refuse
from gestalt.support.files import replacing

FORMAT = 1
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
        image_rows, text_rows: layouts of the files; None for text rows without text features.
        complete: True if every file is written.
    """

    image: dict[str, Any]
    text: dict[str, Any]
    epochs: int
    image_rows: dict[str, Any]
    text_rows: dict[str, Any] | None
    complete: bool

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


def differences(cached: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the keys of ``wanted`` in which a cache differs, with both values."""
    return [f"{key} is {value}, but the cache has {cached.get(key)}" for key, value in wanted.items() if cached.get(key) != value]


def check_cache(config: Experiment) -> None:
    """Check ``data.features`` against the configuration, before torch is imported; weights and data are compared later.

    Raises:
        ConfigError: not a complete cache, or one of another configuration.
    """
    if config.data.features is None:
        return
    folder = Path(config.data.features).expanduser()
    cache = Description.read(folder)
    refuse_differences(folder, differences(cache.image, image_key(config)) + text_differences(cache, text_key(config)))
    if not cache.complete:
        refuse("data.features", folder, "not complete; run its `gestalt features` command again to complete it")


def text_differences(cache: Description, wanted: Mapping[str, Any]) -> list[str]:
    """Return the differences of text features; none are wanted where the text tower is trained."""
    if wanted and not cache.text:
        return ["text.frozen is True, but the cache has False"]
    return differences(cache.text, wanted)


def refuse_differences(folder: Path, found: list[str]) -> None:
    """Refuse a cache that was made for another configuration, other weights or other data.

    Raises:
        ConfigError: names each difference.
    """
    if found:
        mend = "choose the cache's values, or make another by `gestalt features`"
        refuse("data.features", folder, f"made for another run: {'; '.join(found)}; {mend}")
