"""Open the pairs that the keys of ``data`` name."""

from dataclasses import asdict
from typing import Any

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.keys import Data, check_options
from gestalt.data_modules.pixels.augment import USUAL, Augmentation
from gestalt.data_modules.sources import Source, open_source


def open_data(
    data: Data,
    *,
    size: int,
    seed: int,
    limit: int | None,
    crops: int | None = None,
    augmentation: Augmentation = USUAL,
    **offered: Any,
) -> Source:
    """Open the pairs of ``data.source`` with the keys that it takes, without the bad samples of
    ``data.manifest``.

    Args:
        data: where the pairs are.
        size: side of the images, pixels.
        seed: seed of every random draw.
        limit: largest number of pairs; None for all.
        crops: different crops of an image; None for a new one in each epoch.
        augmentation: random changes of stored images.
        offered: more options that the source may take; those of ``data.options`` come first.

    Raises:
        ValueError: an option that the source does not take, data that cannot be read, or a manifest
            of other data.
    """
    check_options(data)
    weights = data.caption if isinstance(data.caption, dict) else {}
    offered |= {
        "recipe": data.recipe,
        "captions": CaptionRule(
            None if isinstance(data.caption, dict) else data.caption,
            data.caption_choice,
            data.caption_template,
            data.caption_part,
            data.captions,
            weights,
        ),
        "cache": data.cache,
        "max_bad_share": data.max_bad_share,
        "window": data.window_shards,
        "parts": [asdict(part) for part in data.mixture],
    }
    return open_source(
        data.source,
        root=data.root,
        size=size,
        seed=seed,
        limit=limit,
        crops=crops,
        augmentation=augmentation,
        include=data.include,
        manifest=data.manifest,
        offered=offered,
        **data.options,
    )
