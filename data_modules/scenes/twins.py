"""Twins: two classes, each with a background that it goes with by habit: what Waterbirds is to photographs.

``class_label`` and ``place`` are 0 or 1; a scene with both alike shows what habit expects.
"""

import numpy as np

from data_modules.scenes.recipes import TWINS, SceneRecipe, SpuriousRecipe

NAMES = tuple(twin.noun for twin in TWINS)
"""The classes, in order of class label."""

PLACES = tuple(twin.backdrop for twin in TWINS)
"""The backgrounds, in order of place."""


class Twins:
    """Where a recipe has them.

    Attributes:
        kinds: their numbers among the recipe's classes.
        backgrounds: the numbers of their own backgrounds.
    """

    def __init__(self, recipe: SceneRecipe) -> None:
        """Find them.

        Raises:
            ValueError: the recipe lacks one of the classes or backgrounds.
        """
        nouns = [noun.name for noun in recipe.classes]
        backdrops = [backdrop.name for backdrop in recipe.backgrounds]
        for name, known, what in (*((n, nouns, "class") for n in NAMES), *((n, backdrops, "background") for n in PLACES)):
            if name not in known:
                raise ValueError(
                    f"scenes recipe {recipe.name!r} has no {what} {name!r}, which Waterbirds' twin needs; it has {', '.join(known)}"
                )
        self.kinds = tuple(nouns.index(name) for name in NAMES)
        self.backgrounds = tuple(backdrops.index(name) for name in PLACES)

    def drawn(self, recipe: SpuriousRecipe, rng: np.random.Generator) -> tuple[int, int] | None:
        """The background and the class of a training scene that shows a twin, nearly always where it belongs; None for another scene."""
        if rng.random() >= recipe.twin_share:
            return None
        class_label = int(rng.random() < 0.5)
        place = class_label if rng.random() < recipe.correlation else 1 - class_label
        return self.backgrounds[place], self.kinds[class_label]
