"""The recipes that made the demo's inits."""

from dataclasses import dataclass, fields, replace

from gestalt.pretraining.keys import Pretraining


@dataclass(frozen=True)
class Recipe:
    """How an init is made.

    Attributes:
        warmup: share of the steps in which the learning rate rises.
        object_centred: scenes show a single large object, which gives labels; else scenes of the
            recipe.

    The other attributes are keys of ``Pretraining``.
    """

    steps: int
    batch_size: int
    warmup: float
    object_centred: bool
    image_size: int
    crop_size: int
    learning_rate: float = 1.5e-3
    seed: int = 0

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return round(self.warmup * self.steps)


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
    values = ((field.name, getattr(keys, field.name, None)) for field in fields(Recipe))
    return replace(RECIPES[init], **{name: value for name, value in values if value is not None})
