"""Open the pairs that the keys of ``data`` name."""

from dataclasses import asdict
from typing import Any

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.keys import Data, check_options
from gestalt.data_modules.sources import Source, open_source


def open_data(
    data: Data,
    *,
    size: int,
    seed: int,
    limit: int | None,
    crops: int | None = None,
    outside: bool = True,
    **options: Any,
) -> Source:
    """Open the pairs of ``data.source`` with the keys that it takes, without the bad samples of
    ``data.manifest``.

    Args:
        data: where the pairs are.
        size: side of the images, pixels.
        seed: seed of every random draw.
        limit: largest number of pairs; None for all.
        crops: different crops of an image; None for a new one in each epoch.
        outside: False to refuse files outside of their folder, unless ``data.options`` allows them.
        options: more options of the source.

    Raises:
        ValueError: an option that the source does not take, data that cannot be read, or a manifest
            of other data.
    """
    check_options(data)
    offered = {
        "recipe": data.recipe,
        "captions": CaptionRule(data.caption, data.caption_choice, data.caption_template),
        "cache": data.cache,
        "max_bad_share": data.max_bad_share,
        "window": data.window_shards,
        "outside": outside,
        "parts": [asdict(part) for part in data.mixture],
    }
    return open_source(
        data.source,
        root=data.root,
        size=size,
        seed=seed,
        limit=limit,
        crops=crops,
        manifest=data.manifest,
        offered=offered,
        **{**data.options, **options},
    )
