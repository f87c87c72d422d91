"""Twins: two classes, each with a background on which it usually stands, as a counterpart of
Waterbirds.

``class_label`` and ``place`` are 0 or 1; if they are equal, the scene shows the usual combination.
"""

import numpy as np

from gestalt.data_modules.scenes.recipes import SceneRecipe, SpuriousRecipe

NAMES = ("cow", "bird")
"""Class names, in order of class label: counterparts of Waterbirds' landbirds and waterbirds."""

PLACES = ("grass", "water")
"""Background names, in order of place.  No recipe holds these classes out against these
backgrounds.
"""


class Twins:
    """Numbers of the twins in a recipe.

    Attributes:
        kinds: their numbers among the recipe's classes.
        backgrounds: the numbers of their backgrounds.
    """

    def __init__(self, recipe: SceneRecipe) -> None:
        """Find them in the recipe.

        Raises:
            ValueError: the recipe lacks one of the classes or backgrounds.
        """
        nouns = [noun.name for noun in recipe.classes]
        backdrops = [backdrop.name for backdrop in recipe.backgrounds]
        for what, names, known in (
            ("class", NAMES, nouns),
            ("background", PLACES, backdrops),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"scenes recipe {recipe.name!r} has no {what} {name!r}, which "
                        f"scenes_waterbirds needs; it has {', '.join(known)}"
                    )
        self.kinds = tuple(nouns.index(name) for name in NAMES)
        self.backgrounds = tuple(backdrops.index(name) for name in PLACES)

    def drawn(self, recipe: SpuriousRecipe, rng: np.random.Generator) -> tuple[int, int] | None:
        """Draw background and class of a training scene with a twin, usually on its background;
        None for a scene without twins.
        """
        if rng.random() >= recipe.twin_share:
            return None
        class_label = int(rng.random() < 0.5)
        place = class_label if rng.random() < recipe.correlation else 1 - class_label
        return self.backgrounds[place], self.kinds[class_label]
