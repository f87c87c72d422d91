"""Scenes as an image set: the frozen validation scenes of a recipe, with class and instance maps and captions.  S scene side."""

from collections.abc import Sequence

import torch

from data_modules.image_sets import ImageSetSample, LabelSet, chosen
from data_modules.scenes.composition import SceneMaker
from data_modules.scenes.layout import SPLITS
from data_modules.scenes.recipes import RECIPES, SceneRecipe, find_recipe

CAPTIONS = 5
"""Captions an image, as in the photographs' sets."""


def _labels(recipe: SceneRecipe) -> LabelSet:
    """What a recipe's scenes show; its backdrops are the background."""
    return LabelSet(
        names=("background", *(noun.name for noun in recipe.classes)),
        prompts=(tuple(backdrop.name for backdrop in recipe.backgrounds), *((noun.name,) for noun in recipe.classes)),
        background=0,
    )


LABELS = {f"scenes of {name}": _labels(recipe) for name, recipe in RECIPES.items()}
"""Of each recipe; where scenes are opened, those of theirs are called ``scenes``."""


class SceneSet:
    """Held-out scenes: every one shows a combination that training never does.  No training seed changes them."""

    name = "scenes"
    no_instances = None

    def __init__(self, maker: SceneMaker, *, split: str, size: int, length: int, label_sets: Sequence[str] | None = None) -> None:
        """Take the maker; ``split`` is ``val`` or ``tune``."""
        recipe = maker.recipe
        self.maker = maker
        self.official_length = recipe.validation_scenes
        self.label_sets = chosen({"scenes": _labels(recipe)}, label_sets)
        self._seed = recipe.validation_seed
        self._split = split
        self._size = size
        self._length = length

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def sample(self, index: int) -> ImageSetSample:
        """A scene: (3, S, S) image, (S, S) maps, captions."""
        layout = self.maker.plan(index, seed=self._seed, split=self._split)
        scene = self.maker.scene(layout, size=self._size)
        return {
            "image": torch.from_numpy(scene.image),
            "name": f"{index:05d}",
            "labels": {name: torch.from_numpy(scene.label) for name in self.label_sets},
            "instance": torch.from_numpy(scene.instance),
            "captions": [self.maker.caption(layout, seed=self._seed, epoch=epoch, index=index) for epoch in range(CAPTIONS)],
        }


def open_here(
    *,
    root: str | None,
    split: str | None,
    limit: int | None,
    label_sets: Sequence[str] | None,
    recipe: str = "scenes_v1",
    size: int | None = None,
) -> SceneSet:
    """Open validation scenes.

    Args:
        root: a folder of cut-outs, or None for OpenMoji's.
        split: ``val`` (default) for reporting, ``tune`` for choosing hyper-parameters.
        limit: at most so many scenes; None for the recipe's.
        label_sets: ``scenes``, or None for it.
        recipe: a name in ``RECIPES``.
        size: side in pixels; None for the recipe's.

    Raises:
        ValueError: unknown split, label set or recipe.
    """
    maker = SceneMaker(find_recipe(recipe), root=root)
    made = maker.recipe
    length = min(limit or made.validation_scenes, made.validation_scenes)
    return SceneSet(maker, split=validation_split(split), size=size or made.native_size, length=length, label_sets=label_sets)


def validation_split(split: str | None) -> str:
    """``val`` for None, else the name itself.

    Raises:
        ValueError: it is no split to measure on.
    """
    split = "val" if split is None else split
    if split not in SPLITS or split == "train":
        raise ValueError(f"scenes split {split!r} is no validation split; known: {', '.join(name for name in SPLITS if name != 'train')}")
    return split
