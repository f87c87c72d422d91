"""Sources: image-text pairs to train on, one file each, opened by name or by the keys of ``data``.
``docs/contributing.md`` explains how to add one.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from gestalt.data_modules.corpora.manifest import only_included, without_known_bad
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.corpora.stores import Store
from gestalt.data_modules.keys import Data, check_options
from gestalt.data_modules.opening import find_opener
from gestalt.data_modules.pairs import Source as Source
from gestalt.data_modules.pairs import StoredPair as StoredPair
from gestalt.data_modules.pixels.augment import USUAL, Augmentation


def open_source(
    name: str,
    *,
    root: str | None = None,
    size: int,
    seed: int = 0,
    limit: int | None = None,
    crops: int | None = None,
    augmentation: Augmentation = USUAL,
    include: str | None = None,
    manifest: str | None = None,
    offered: Mapping[str, Any] | None = None,
    **options: object,
) -> Source:
    """Open a source by name.  A store is cropped and captioned by ``StoredPairs``.

    Args:
        name: name of its file in this folder.
        root: location of the data; None if the source needs none.
        size: side of the images, pixels.
        seed: seed of all random draws.
        limit: largest number of pairs, at least 1, the first ones; None for all.
        crops: number of different crops of each image; None for a new one in each epoch.
        augmentation: random changes of stored images.
        include: file of the ``uid`` of the only pairs that are kept; None to keep all.
        manifest: file of the bad samples that are left out; None to leave out none.
        offered: options that the source may take, such as ``captions``; others are left aside.
        options: options that the source must take.

    Raises:
        ValueError: unknown source or option, data that cannot be read, a manifest of other data, an
            ``include`` without any of the pairs,
            ``crops`` or ``augmentation`` of a source that draws its own images, or offered
            ``captions`` of one that makes its own.
    """
    opener = find_opener("sources", name, options)
    taken = inspect.signature(opener).parameters.keys()
    common: dict[str, Any] = {"size": size, "seed": seed, "limit": limit}
    common |= {"crops": crops, "augmentation": augmentation}
    given: dict[str, Any] = {"root": root, **common, **(offered or {}), **options}
    rule = given.setdefault("captions", ANY_CAPTION)
    if rule != ANY_CAPTION and "captions" not in taken:
        raise ValueError(
            "data.caption, data.caption_choice, data.caption_template, data.caption_part, "
            f"data.captions: source {name} makes its own captions and does not take them; leave "
            "them at their defaults"
        )
    opened: Any = opener(**{key: given[key] for key in taken & given.keys()})
    if isinstance(opened, Store) and rule.table is None:
        opened = StoredPairs(opened, rule=rule, **common)
    elif isinstance(opened, Store):
        from gestalt.data_modules.corpora.caption_tables import CaptionedPairs

        opened = CaptionedPairs(opened, rule=rule, cache=given.get("cache"), **common)
    elif augmentation != USUAL and "augmentation" not in taken:
        raise ValueError(
            f"data.crop_scale, data.flip, data.colour: source {name} draws its images itself and "
            "does not take them; leave them at their defaults"
        )
    elif crops is not None and opened.crops not in (1, crops):
        raise ValueError(
            f"data.crops={crops}: source {name} draws new images in each epoch, not crops of "
            "stored ones; choose null"
        )
    if include is not None:
        opened = only_included(opened, Path(include))
    return opened if manifest is None else without_known_bad(opened, Path(manifest))


def open_data(data: Data, *, size: int, seed: int, **offered: Any) -> Source:
    """Open the pairs of ``data.source`` with the keys that it takes, without the bad samples of
    ``data.manifest``.

    Args:
        data: where the pairs are, and how they are drawn.
        size: side of the images, pixels.
        seed: seed of every random draw.
        offered: more options that the source may take; those of ``data.options`` come first.

    Raises:
        ValueError: an option that the source does not take, data that cannot be read, or a manifest
            of other data.
    """
    check_options(data)
    rule = CaptionRule(
        choice=data.caption_choice,
        template=data.caption_template,
        part=data.caption_part,
        table=data.captions,
    )
    if isinstance(data.caption, dict):
        rule = rule._replace(weights=data.caption)
    else:
        rule = rule._replace(column=data.caption)
    offered |= {
        "recipe": data.recipe,
        "captions": rule,
        "cache": data.cache,
        "max_bad_share": data.max_bad_share,
        "window": data.window_shards,
        "parts": data.mixture,
    }
    return open_source(
        data.source,
        root=data.root,
        size=size,
        seed=seed,
        limit=data.limit,
        crops=data.crops,
        augmentation=Augmentation(data.crop_scale, data.flip, data.colour),
        include=data.include,
        manifest=data.manifest,
        offered=offered,
        **data.options,
    )
