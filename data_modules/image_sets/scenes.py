"""Validation scenes of a recipe with class maps, instance maps and captions, and the base of the
image sets that draw scenes.  S scene side in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gestalt.data_modules.image_sets import (
    ImageSetSample,
    LabelSet,
    select_label_sets,
    select_split,
)
from gestalt.data_modules.scenes.composition import Layout, SceneMaker
from gestalt.data_modules.scenes.recipes import RECIPES, SceneRecipe, find_recipe


class HeldOutScenes(ABC):
    """Validation scenes of a recipe, which do not depend on any training seed.  Subclasses are
    openers of image sets.

    Attributes:
        maker: draws the scenes.
        recipe: their recipe, with the classes of the folder of cut-outs if there is one.
        split: ``val`` for reporting, or ``tune`` for the choice of hyper-parameters.
    """

    name: str
    no_instances: str | None = "its scenes have one class each and no maps"
    scenes: int | None = None
    """Number of scenes in the set; None for the recipe's."""
    object_centred: bool = False

    def __init__(
        self,
        *,
        root: str | None,
        split: str | None,
        limit: int | None,
        label_sets: Sequence[str] | None,
        recipe: str = "scenes_v1",
    ) -> None:
        """Open the scenes.

        Args:
            root: a folder of cut-outs; None for OpenMoji.
            split: ``val`` or ``tune``; None for ``val``.
            limit: largest number of scenes; None for all.
            label_sets: names of the label sets to use; None for all.
            recipe: a name in ``RECIPES``.

        Raises:
            ValueError: unknown split, label set or recipe.
        """
        self.maker = SceneMaker(find_recipe(recipe, self.object_centred), root=root)
        self.recipe = self.maker.recipe
        self.split = select_split(self.name, split, known=("val", "tune"))
        self.official_length: int | None = self.scenes or self.recipe.validation_scenes
        self.label_sets = select_label_sets(self.labels(), label_sets)
        self.size = self.recipe.native_size
        self._length = min(limit or self.official_length, self.official_length)

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def labels(self) -> Mapping[str, LabelSet]:
        """Return the label sets of the scenes by name."""

    def layout(self, index: int) -> Layout:
        """Return the layout of a scene."""
        return self.maker.plan(index, seed=self.recipe.validation_seed, split=self.split)

    def pixels(self, layout: Layout) -> Tensor:
        """Draw a scene.  Returns (3, S, S) uint8."""
        return torch.from_numpy(self.maker.image(layout, size=self.size))


CAPTIONS = 5
"""Number of captions of each scene, as in sets of photographs."""


def _labels(recipe: SceneRecipe) -> LabelSet:
    """Return the classes of a recipe's scenes, with all its backdrops as background."""
    return LabelSet(
        names=("background", *(noun.name for noun in recipe.classes)),
        prompts=(
            tuple(backdrop.name for backdrop in recipe.backgrounds),
            *((noun.name,) for noun in recipe.classes),
        ),
        background=0,
    )


LABELS = {f"scenes of {name}": _labels(recipe) for name, recipe in RECIPES.items()}
"""Label sets of all recipes; an opened set has one of these as ``scenes``."""


class SceneSet(HeldOutScenes):
    """Scenes that each show a combination of classes, or of class and background, that is held out
    from training.
    """

    name = "scenes"
    no_instances = None

    def labels(self) -> Mapping[str, LabelSet]:
        """Return the classes of the recipe."""
        return {"scenes": _labels(self.recipe)}

    @property
    def names(self) -> list[str]:
        """Names of the samples, in order."""
        return [f"{index:05d}" for index in range(len(self))]

    def prepare(self) -> None:
        """Draw the cut-outs of all scenes, for the loading processes that are forked from this one
        at each validation.
        """
        for index in range(len(self)):
            for placed in self.layout(index).objects:
                self.maker.cut_out(placed, self.size)

    def sample(self, index: int) -> ImageSetSample:
        """Draw a scene: (3, S, S) image, (S, S) maps, captions."""
        layout, seed = self.layout(index), self.recipe.validation_seed
        scene = self.maker.scene(layout, self.size)
        return {
            "image": torch.from_numpy(scene.image),
            "name": f"{index:05d}",
            "labels": {name: torch.from_numpy(scene.label) for name in self.label_sets},
            "instance": torch.from_numpy(scene.instance),
            "captions": [
                self.maker.caption(layout, seed=seed, epoch=epoch, index=index)
                for epoch in range(CAPTIONS)
            ],
        }


open_here = SceneSet
