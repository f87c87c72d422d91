"""The keys of ``pretraining``, and the recipes whose values they replace."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from gestalt.support.keys import Reader
from gestalt.support.keys import unhashed as key

positive = partial(key, above=0)
"""Makes a field for a number above 0, which no hash of a configuration has."""


@dataclass
class Pretraining:
    """Settings of `gestalt pretrain`, which pretrains an image tower on the images of `data`.
    Training reads none of these keys.

    `dino` is self-distillation of patches, and `supervised` is classification. Settings without a
    key are those of the weights that come with `demo`.
    """

    read_by: ClassVar[Reader] = Reader.TRAINING

    steps: int | None = positive(
        None, "Number of steps. `null`: 300 for dino, 500 for supervised.", kind="steps"
    )
    batch_size: int | None = positive(
        None,
        "Images per step, over all ranks. `null`: 32 for dino, 64 for supervised.",
        kind="images",
    )
    learning_rate: float = key(1.5e-3, "Peak learning rate; a cosine ends at 1e-5.", at_least=1e-5)
    limit: int | None = positive(
        None,
        "Use the first images only. For scenes, which are endless, this is the length of an epoch. "
        "The limit of a scale applies only to the data that the scale names. `null`: all.",
        kind="images",
    )
    image_size: int | None = positive(
        None,
        "Size of the image that crops are cut from. `null`: 64 for dino, 48 for supervised.",
        kind="pixels",
    )
    crop_size: int | None = positive(
        None,
        "Size of the crops, which also sets the number of position embeddings; a multiple of "
        "`image.patch_size`. `null`: 64 for dino, 32 for supervised.",
        kind="pixels",
    )
    seed: int = key(0, "Seed of weights, order, crops and masks; separate from `seed`.", at_least=0)
    save_every_steps: int = positive(100, "Steps between checkpoints.", kind="steps")


@dataclass(kw_only=True)
class Recipe(Pretraining):
    """How an init is made: the keys, of which none is null but ``limit``, and what has no key.

    Attributes:
        warmup: share of the steps in which the learning rate rises.
        object_centred: scenes show a single large object, which gives labels; else scenes of the
            recipe.
    """

    steps: int
    batch_size: int
    image_size: int
    crop_size: int
    warmup: float
    object_centred: bool


RECIPES = {
    "dino": Recipe(
        steps=300, batch_size=32, warmup=40 / 300, object_centred=False, image_size=64, crop_size=64
    ),
    # an object that fills an image of 32 pixels has as many of them as one of a scene at 64
    "supervised": Recipe(
        steps=500, batch_size=64, warmup=50 / 500, object_centred=True, image_size=48, crop_size=32
    ),
}


def recipe_of(init: str, keys: Pretraining) -> Recipe:
    """Return the recipe of an init, with the keys that are set in place of its own values."""
    given = {name: value for name, value in vars(keys).items() if value is not None}
    return replace(RECIPES[init], **given)
