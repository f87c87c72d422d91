"""Keys of ``data``: the image-text pairs to train on, and the checks of sources and their options,
which import no source: that takes seconds.
"""

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from gestalt.data_modules.opening import modules_of, options_written
from gestalt.support.keys import Reader, key, path_key, positive, refuse, unhashed
from gestalt.support.names import nearest
from gestalt.support.typed import in_words

ONLY_SCENES = "the model was trained on generated scenes alone: expect noise on photographs"
"""The caveat of a model of which ``only_scenes`` is True."""

RECIPES = ("prototype", "scenes_v1", "prototype_spurious", "scenes_v1_spurious")  # of scenes


MADE_OF = {
    "recipe": ("recipe",),
    "captions": ("caption", "caption_choice", "caption_template", "caption_part", "captions"),
    "cache": ("cache",),
    "max_bad_share": ("max_bad_share",),
    "window": ("window_shards",),
    "parts": ("mixture",),
}
"""Options that only some sources take -> the keys of ``data`` that they are made of."""

REFUSED = ("parts", "captions", "cache")
"""Options whose keys must be at their defaults for a source without the option; scales set the keys
of the others for every source.
"""

OWN = "own"
"""Name of the source's caption among the columns of a table of captions."""

TYPES = {"str": str, "int": int, "bool": bool, "None": type(None)}
"""Types of options as a source's file writes them; one with another type is not checked here."""


@dataclass
class MixturePart:
    """One source of a mixture."""

    source: str = key(
        "", "Source of this part, as in `data.source`, which each part must name.", kind="a source"
    )
    root: str | None = path_key("Its folder or tars, as in `data.root`.")
    weight: float | None = positive(
        None,
        "Its share of the pairs, relative to the sum of all weights. `null`: its number of pairs; "
        "then no part may have a weight.",
    )
    limit: int | None = positive(
        None, "Use its first pairs only, as in `data.limit`.", kind="pairs"
    )
    manifest: str | None = path_key("Its manifest, as in `data.manifest`.")
    caption: str | None = key(
        None, "Its captions, as in `data.caption`, which this key overrides for the part."
    )
    options: dict[str, Any] = key({}, "Arguments of its source, as in `data.options`.")


@dataclass
class Captions:
    """A table of captions of the pairs."""

    root: str = key("", "File or pattern, local or of the hub.", kind="path, URL or pattern")
    by: dict[str, str] | str = key("url", "Value that joins pairs and rows.")


@dataclass
class Data:
    """Image-text pairs to train on."""

    source: str = key(
        "tars",
        "Source of the image-text pairs: a file under `data_modules/sources`, or your own code as "
        "`python:package.module:open_here`.",
        kind="a source",
        read_by=Reader.EXTERNAL | Reader.DEBIASING,
    )
    root: str | None = key(
        None,
        "The source's folder, or tars such as `'cc12m-train-{0000..2175}.tar'`. For `scenes`: "
        "folder of cut-out pictures, or `null` for those of the package.",
        kind="path, URL or pattern",
        read_by=Reader.EXTERNAL | Reader.LABEL_MAPS | Reader.DEBIASING,
    )
    options: dict[str, Any] = key(
        {}, "Arguments of that source alone, such as `split` or `image_column`."
    )
    mixture: list[MixturePart] = key([], "Parts of source `mixture`.")
    recipe: str = key(
        "scenes_v1",
        "Recipe of scenes. With `_spurious`, one of two similar classes correlates with a "
        "background in training images.",
        choices=RECIPES,
        read_by=Reader.EXTERNAL | Reader.LABEL_MAPS,
    )
    limit: int | None = positive(
        None,
        "Use the first pairs only. For scenes, which are endless, this is the length of an epoch. "
        "The limit of a scale applies only to the data that the scale names. `null`: all.",
        kind="pairs",
        read_by=Reader.TRAINING,
    )
    captions: Captions | None = key(
        None,
        "Table of more captions of the pairs, parquet, CSV, TSV or JSON lines, gzipped or not, "
        "such as `{root: captions.parquet, by: url}`. `by` is a value that both sides have, "
        "`url`, `key`, `uid`, `sha256` or `path`, or names the column too: `{url: Image Path}`. "
        "`null`: those of the source alone.",
    )
    caption: dict[str, float] | str | None = key(
        None,
        "Where captions are stored: a column, or in tars `txt` or a key of the `.json`. `null`: "
        "the default of the source. With `captions`, the table's columns with their weights, such "
        "as `{caption_llava: 2, own: 1}`; `own` is the source's caption, and a weight of 0 is for "
        "pairs without another.",
        kind="a word, or a mapping of columns to weights",
    )
    caption_part: Literal["whole", "sentence", "merge3"] = key(
        "whole",
        "Part of a caption that is drawn in each epoch: all of it, a sentence, or one to three "
        "neighbouring sentences; all of it with `caption_choice=first`.",
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
    manifest: str | None = path_key(
        "File written by `gestalt data inspect`; samples that it marks as bad are skipped. `null`: "
        "none."
    )
    include: str | None = path_key(
        "List of `uid` in a `.npy` file, as DataComp publishes it. Only pairs whose `.json` or "
        "column has one of them are used. `null`: all."
    )
    crops: int | None = positive(
        None,
        "Number of different crops of an image, each with its own kept tokens. Epoch e repeats the "
        "crop of epoch e mod `crops`; captions "
        "are still drawn anew in each epoch. `null`: a new crop in each epoch.",
        kind="crops",
        read_by=Reader.TRAINING,
    )
    crop_scale: tuple[float, float] = key(
        (0.9, 1.0),
        "Range of the share of a photograph's area that a training crop covers.",
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
    features: str | None = path_key(
        "Folder written by `gestalt features`, read instead of images: outputs of the frozen part "
        "of the image tower. `null`: read images.",
        hashed=False,
        read_by=Reader.TRAINING,
    )
    cache: str | None = path_key(
        "Folder for files that are computed once from the data: indices of tars, unpacked tars, "
        "joined captions, hashes of captions in remote parquet. `null`: `~/.cache/gestalt`, or "
        "the folder that the environment variable `GESTALT_CACHE` names.",
        hashed=False,
    )
    batch_size: int = positive(
        8192, "Pairs per step, over all ranks.", kind="pairs", read_by=Reader.TRAINING
    )
    workers: int | None = unhashed(
        None,
        "Data-loading processes per rank; 0 loads in the training process. `null`: chosen from "
        "the cores, the free memory, the batch and the accelerator.",
        at_least=0,
        at_most=1024,
        read_by=Reader.EXTERNAL | Reader.LABEL_MAPS,
    )
    window_shards: int = positive(
        16,
        "Number of shards whose pairs are shuffled together; a source without shards is shuffled "
        "as a whole.",
        kind="shards",
    )
    max_bad_share: float = unhashed(
        0.1, "Maximum share of unreadable samples; the run stops above it.", at_least=0, at_most=1
    )


def only_scenes(data: Data) -> bool:
    """Return True if every pair is a generated scene."""
    sources = [part.source for part in data.mixture] if data.source == "mixture" else [data.source]
    return set(sources) == {"scenes"}


def check_source(data: Data) -> None:
    """Check that every source exists, and that Flickr has its folder.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    sources = {"data.source": data.source} | {
        f"data.mixture[{number}].source": part.source for number, part in enumerate(data.mixture)
    }
    known = modules_of("sources")
    for place, source in sources.items():
        if source not in known:
            refuse(place, source, nearest(source, known))
    if data.source == "flickr" and data.root is None:
        refuse(
            "data.root",
            None,
            "source flickr needs the folder that holds Images/ and captions.txt, such as "
            "data.root=flickr8k",
        )


def check_options(data: Data) -> None:
    """Check that the sources take the given options and keys.

    Called before pairs are read, but not when a saved run is scored: its sources may have changed.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    _check_captions(data)
    _check_taken(data, MADE_OF, place="data")
    for number, part in enumerate(data.mixture):
        _check_taken(part, {"captions": ("caption",)}, place=f"data.mixture[{number}]")
    taken = options_written(data.source)
    for option in REFUSED:
        changed = [key for key in MADE_OF[option] if getattr(data, key) != getattr(Data(), key)]
        if option == "cache" and data.captions is not None:
            continue  # joined captions are written there
        if taken is not None and option not in taken and changed:
            why = f"source {data.source} does not take it; leave it at its default"
            refuse(f"data.{changed[0]}", getattr(data, changed[0]), why)


def _check_captions(data: Data) -> None:
    """Check that a table of captions has weights of its columns, and the reverse."""
    weights = data.caption if isinstance(data.caption, dict) else {}
    valid = bool(weights.keys() - {OWN}) and all(0 <= each < inf for each in weights.values())
    if valid != (data.captions is not None) or (weights and not valid):
        why = "weights of at least 0 of columns of data.captions.root, such as {COLUMN: 2, own: 1}"
        refuse("data.caption", data.caption, f"a table of captions needs {why}; set both, or none")
    by = data.captions and data.captions.by
    if isinstance(by, dict) and len(by) != 1:
        refuse("data.captions.by", by, "choose one value, such as {url: COLUMN}")


def _check_taken(part: Data | MixturePart, keys: Any, *, place: str) -> None:
    """Check names and types of the options that are given at a place; ``keys`` are those made of
    keys of their own, as in ``MADE_OF``.
    """
    written = options_written(part.source)
    for option, value in part.options.items():
        name = f"{place}.options.{option}"
        if option in keys:
            instead = " or ".join(f"{place}.{key}" for key in keys[option])
            refuse(name, value, f"has its own key; set {instead}")
        if written is None:
            continue
        if option not in written:
            choices = [known for known in written if known not in keys]
            refuse(
                name,
                value,
                f"source {part.source} takes no such option; "
                f"{nearest(option, choices) if choices else 'it takes none'}",
            )
        kinds = [TYPES.get(word) for word in written[option].split(" | ")]
        if None not in kinds and type(value) not in kinds:
            quoted = f"; in quotes it is a text: \"{name}='{value}'\"" if str in kinds else ""
            refuse(name, value, f"must be {in_words(kinds[0])}{quoted}")
