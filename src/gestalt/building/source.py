"""Experiment -> the source of its pairs or images.  Knows the data alone; build and build_pretraining ask it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_modules.corpora.captions import CaptionRule
from data_modules.corpora.manifest import WithoutKnownBad
from data_modules.sources import Source, open_source, options_taken
from gestalt.config.check_data import check_options
from gestalt.config.schema import Experiment


def open_configured(config: Experiment, *, size: int, seed: int, limit: int | None, **options: Any) -> Source:
    """Open ``data.source`` with what it takes of the configuration, without the samples that ``data.manifest`` calls bad.

    Args:
        config: of the run.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: at most so many pairs.
        options: further ones of the source.

    Raises:
        ValueError: as ``check_options``; it cannot be read, or the manifest is of other data.
    """
    check_options(config)
    data = config.data
    offered = {
        "recipe": data.recipe,
        "captions": CaptionRule(data.caption, data.caption_choice, data.caption_template),
        "cache": data.cache,
        "cache_gib": data.cache_gib,
        "max_bad_share": data.max_bad_share,
        "window": data.window_shards,
        "parts": [asdict(part) for part in data.mixture],
    }
    taken = options_taken(data.source)
    options = {**{key: value for key, value in offered.items() if key in taken}, **data.options, **options}
    source = open_source(data.source, root=data.root, size=size, seed=seed, limit=limit, **options)
    return source if data.manifest is None else WithoutKnownBad(source, Path(data.manifest))
