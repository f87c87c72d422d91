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
        numbers = []
        for what, names, listed in (
            ("class", NAMES, recipe.classes),
            ("background", PLACES, recipe.backgrounds),
        ):
            known = [one.name for one in listed]
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"scenes recipe {recipe.name!r} has no {what} {name!r}, which "
                        f"scenes_waterbirds needs; it has {', '.join(known)}"
                    )
            numbers.append(tuple(map(known.index, names)))
        self.kinds, self.backgrounds = numbers

    def draw(
        self, recipe: SpuriousRecipe, rng: np.random.Generator
    ) -> tuple[int, list[int]] | None:
        """Draw background and classes of a training scene with a twin, usually on its background;
        None for a scene without twins.
        """
        if rng.random() >= recipe.twin_share:
            return None
        class_label = int(rng.random() < 0.5)
        place = class_label if rng.random() < recipe.correlation else 1 - class_label
        return self.backgrounds[place], [self.kinds[class_label]]
