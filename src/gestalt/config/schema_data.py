"""The schema of ``data``: the image-text pairs to train on."""

from dataclasses import MISSING, dataclass
from typing import Any, Literal

from gestalt.config.keys import key

RECIPES = ("prototype", "scenes_v1", "prototype_spurious", "scenes_v1_spurious")  # of scenes


@dataclass
class MixturePart:
    """One source of a mixture."""

    source: str = key(MISSING, "As `data.source`.", kind="a source")
    root: str | None = key(None, "As `data.root`.", kind="path")
    weight: float | None = key(
        None, "Its share of the pairs is its weight over the sum of weights. `null`, in all parts or none: its number of pairs.", above=0
    )
    limit: int | None = key(None, "As `data.limit`.", kind="pairs", above=0)
    manifest: str | None = key(None, "As `data.manifest`.", kind="path")
    caption: str | None = key(None, "As `data.caption`, which it replaces for this part.")
    options: dict[str, Any] = key({}, "As `data.options`.")


@dataclass
class Data:
    """Image-text pairs to train on."""

    source: str = key("tars", "Where pairs come from: a file under `data_modules/sources`.", kind="a source")
    root: str | None = key(
        None,
        "The source's folder, or tars such as `'cc12m-{0000..1242}.tar'`. Of scenes: cut-out pictures; `null`: the embedded ones.",
        kind="path, URL or pattern",
    )
    options: dict[str, Any] = key({}, "Arguments of that source alone, such as `split` or `image_column`.")
    mixture: list[MixturePart] = key([], "Parts of source `mixture`.")
    recipe: str = key(
        "scenes_v1", "Recipe of scenes. Under `_spurious`, training pictures correlate twins with their background.", choices=RECIPES
    )
    limit: int | None = key(
        None,
        "Use the first pairs only. Scenes are endless; there it is the length of an epoch. A scale's limit holds "
        "only for the data that the scale names. `null`: all.",
        kind="pairs",
        above=0,
    )
    caption: str | None = key(
        None, "Where captions are: a column; in tars `txt`, or a key of the `.json`. `null`: where the source has them."
    )
    caption_choice: Literal["first", "random"] = key("random", "Which of several captions a pair has; `random` draws in each epoch.")
    caption_template: str | None = key(
        None,
        "Text that a caption is put into. `null`: the caption alone.",
        pattern=r"(?s).*\{\}.*",
        form="a text with {} for the caption, such as 'a photo of {}'",
    )
    manifest: str | None = key(None, "File of `gestalt data inspect`; samples that it calls bad are left out. `null`: none.", kind="path")
    crops: int | None = key(
        None,
        "Different crops of an image, each with its own kept tokens: epoch e has those of epoch e mod `crops`; captions are drawn in each "
        "epoch all the same. `null`: a new crop in each epoch.",
        kind="crops",
        above=0,
        later=True,
    )
    features: str | None = key(
        None,
        "Folder of `gestalt features`, read in place of images: the output of the frozen part of the image tower, and of a frozen text "
        "tower. `null`: images.",
        kind="path",
        hashed=False,
    )
    cache: str | None = key(
        None,
        "Folder for unpacked `.tar.gz`, for the indices of tars that cannot lie beside them, and for hashes of captions in remote parquet. "
        "`null`: `~/.cache/gestalt`.",
        kind="path",
        hashed=False,
    )
    cache_gib: float = key(50.0, "Most space that unpacked tars take.", kind="GiB", above=0, hashed=False)
    batch_size: int = key(8192, "Pairs a step, over all ranks.", kind="pairs", above=0)
    workers: int | None = key(
        None,
        "Loader processes a rank; 0 loads in the training process. `null`: chosen from the cores, the image size and where steps run.",
        at_least=0,
        hashed=False,
    )
    window_shards: int = key(
        16, "Shards whose pairs are shuffled together; a source without shards is shuffled whole.", kind="shards", above=0
    )
    max_bad_share: float = key(0.1, "The run stops when a larger share of the samples cannot be read.", at_least=0, at_most=1, hashed=False)
