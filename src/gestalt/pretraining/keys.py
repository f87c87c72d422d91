"""The keys of ``pretraining``."""

from dataclasses import dataclass

from gestalt.support.keys import unhashed as key


@dataclass
class Pretraining:
    """How `gestalt pretrain` makes an image init from the images of `data`; training reads none of
    these keys.

    `dino` is self-distillation of patches, `supervised` classification. Whatever has no key is as
    in the demo's inits.
    """

    steps: int | None = key(
        None, "Number of steps. `null`: 300 for dino, 500 for supervised.", kind="steps", above=0
    )
    batch_size: int | None = key(
        None,
        "Images per step, over all ranks. `null`: 32 for dino, 64 for supervised.",
        kind="images",
        above=0,
    )
    learning_rate: float = key(1.5e-3, "Peak learning rate; a cosine ends at 1e-5.", at_least=1e-5)
    limit: int | None = key(
        None,
        "Use the first images only. For scenes, which are endless, this is the length of an epoch. "
        "The limit of a scale applies only to the data that the scale names. `null`: all.",
        kind="images",
        above=0,
    )
    image_size: int | None = key(
        None,
        "Side of the image that crops are cut from. `null`: 64 for dino, 48 for supervised.",
        kind="pixels",
        above=0,
    )
    crop_size: int | None = key(
        None,
        "Side of the crops, which also sets the number of position embeddings; a multiple of "
        "`image.patch_size`. `null`: 64 for dino, 32 for supervised.",
        kind="pixels",
        above=0,
    )
    seed: int = key(0, "Seed of weights, order, crops and masks; separate from `seed`.", at_least=0)
    save_every_steps: int = key(100, "Steps between checkpoints.", kind="steps", above=0)
