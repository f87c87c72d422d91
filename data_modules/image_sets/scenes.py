"""Validation scenes of a recipe with class maps, instance maps and captions.  S scene side."""

from collections.abc import Mapping

import torch

from gestalt.data_modules.image_sets import ImageSetSample, LabelSet
from gestalt.data_modules.scenes.held_out import HeldOutScenes
from gestalt.data_modules.scenes.recipes import RECIPES, SceneRecipe

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
