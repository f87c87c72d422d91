"""The schema of ``data``: the image-text pairs to train on."""

from dataclasses import dataclass
from typing import Any, Literal

from gestalt.config.keys import key, positive, unhashed

ONLY_SCENES = "the model was trained on generated scenes alone: expect noise on photographs"
"""The caveat of a model of which ``only_scenes`` is True."""

RECIPES = ("prototype", "scenes_v1", "prototype_spurious", "scenes_v1_spurious")  # of scenes


@dataclass
class MixturePart:
    """One source of a mixture."""

    source: str = key(
        "", "Source of this part, as in `data.source`, which each part must name.", kind="a source"
    )
    root: str | None = key(None, "Its folder or tars, as in `data.root`.", kind="path")
    weight: float | None = positive(
        None,
        "Its share of the pairs, relative to the sum of all weights. `null`: its number of pairs; "
        "then no part may have a weight.",
    )
    limit: int | None = positive(
        None, "Use its first pairs only, as in `data.limit`.", kind="pairs"
    )
    manifest: str | None = key(None, "Its manifest, as in `data.manifest`.", kind="path")
    caption: str | None = key(
        None, "Its captions, as in `data.caption`, which this key overrides for the part."
    )
    options: dict[str, Any] = key({}, "Arguments of its source, as in `data.options`.")


@dataclass
class Data:
    """Image-text pairs to train on."""

    source: str = key(
        "tars", "Source of the pairs: a file under `data_modules/sources`.", kind="a source"
    )
    root: str | None = key(
        None,
        "The source's folder, or tars such as `'cc12m-train-{0000..2175}.tar'`. For `scenes`: "
        "folder of cut-out pictures, or `null` for those of the package.",
        kind="path, URL or pattern",
    )
    options: dict[str, Any] = key(
        {}, "Arguments of that source alone, such as `split` or `image_column`."
    )
    mixture: list[MixturePart] = key([], "Parts of source `mixture`.")
    recipe: str = key(
        "scenes_v1",
        "Recipe of scenes. With `_spurious`, similar classes (twins) correlate with a background "
        "in training images.",
        choices=RECIPES,
    )
    limit: int | None = positive(
        None,
        "Use the first pairs only. For scenes, which are endless, this is the length of an epoch. "
        "The limit of a scale applies only to the data that the scale names. `null`: all.",
        kind="pairs",
    )
    caption: str | None = key(
        None,
        "Where captions are stored: a column, or in tars `txt` or a key of the `.json`. `null`: "
        "the default of the source.",
    )
    caption_choice: Literal["first", "random"] = key(
        "random", "Which of several captions is used; `random` draws a new one in each epoch."
    )
    caption_template: str | None = key(
        None,
        "Template for captions. `null`: the caption alone.",
        pattern=r"(?s).*\{\}.*",
        form="a text with {} for the caption, such as 'a photo of {}'",
    )
    manifest: str | None = key(
        None,
        "File written by `gestalt data inspect`; samples that it marks as bad are skipped. `null`: "
        "none.",
        kind="path",
    )
    crops: int | None = positive(
        None,
        "Number of different crops of an image, each with its own kept tokens. Epoch e repeats the "
        "crop of epoch e mod `crops`; captions "
        "are still drawn anew in each epoch. `null`: a new crop in each epoch.",
        kind="crops",
    )
    crop_scale: tuple[float, float] = key(
        (0.9, 1.0),
        "Range of the share of a photograph's area that a crop of training has.",
        above=0,
        at_most=1,
    )
    flip: float = key(
        0.0,
        "Probability that a crop is mirrored; captions stay as they are.",
        at_least=0,
        at_most=1,
    )
    colour: float = key(
        0.0,
        "Strength of random changes of a crop's brightness, contrast and saturation: each factor "
        "is drawn from 1 +- this.",
        at_least=0,
        at_most=1,
    )
    features: str | None = unhashed(
        None,
        "Folder written by `gestalt features`, read instead of images: outputs of the frozen part "
        "of the image tower. `null`: read images.",
        kind="path",
    )
    cache: str | None = unhashed(
        None,
        "Folder for indices of tars whose own folder is read-only, and for hashes of captions in "
        "remote parquet. `null`: `~/.cache/gestalt`.",
        kind="path",
    )
    batch_size: int = positive(8192, "Pairs per step, over all ranks.", kind="pairs")
    workers: int | None = unhashed(
        None,
        "Loader processes per rank; 0 loads in the training process. `null`: chosen from the "
        "cores, the free memory, the batch and the accelerator.",
        at_least=0,
        at_most=1024,
    )
    window_shards: int = positive(
        16,
        "Number of shards whose pairs are shuffled together; a source without shards is shuffled "
        "as a whole.",
        kind="shards",
    )
    max_bad_share: float = unhashed(
        0.1, "Largest share of unreadable samples; the run stops above it.", at_least=0, at_most=1
    )


def only_scenes(data: Data) -> bool:
    """Return True if every pair is a generated scene."""
    sources = [part.source for part in data.mixture] if data.source == "mixture" else [data.source]
    return set(sources) == {"scenes"}
