"""Scenes: an endless source without files; images are pure in (seed, index), captions in (seed,
epoch, index).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gestalt.data_modules.pairs import Source
from gestalt.data_modules.scenes.composition import Layout, SceneMaker
from gestalt.data_modules.scenes.recipes import SpuriousRecipe, find_recipe


@dataclass(eq=False)
class Scenes(Source):
    """Scenes of a recipe at one size.

    Attributes:
        maker: draws and describes scenes.
        size: side in pixels.
        seed: of layouts and captions.
        length: number of scenes.
        crops: 1; a scene is the same in each epoch.
        classes: the recipe's classes if every scene shows exactly one object, whose class labels
            the scene; None otherwise.
    """

    maker: SceneMaker
    size: int
    seed: int
    length: int
    crops = 1

    def __post_init__(self) -> None:
        """Name the classes."""
        recipe = self.maker.recipe
        if recipe.max_objects == 1:
            self.classes = tuple(noun.name for noun in recipe.classes)

    def __len__(self) -> int:
        return self.length

    def digest(self) -> str:
        """Return the digest of the recipe and its pictures."""
        return self.maker.recipe.digest()

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """Draw a scene, (3, S, S) uint8, and one of its captions."""
        layout = self._layout(index)
        caption = self.maker.caption(layout, seed=self.seed, epoch=epoch, index=index)
        return torch.from_numpy(self.maker.image(layout, size=self.size)), caption

    def caption(self, index: int, epoch: int) -> str:
        """Draw a caption of a scene."""
        return self.maker.caption(self._layout(index), seed=self.seed, epoch=epoch, index=index)

    def label(self, index: int) -> int:
        """Return the class of the only object."""
        (placed,) = self._layout(index).objects
        return placed.kind

    def _layout(self, index: int) -> Layout:
        return self.maker.plan(index, seed=self.seed, split="train")


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    recipe: str = "scenes_v1",
    object_centred: bool = False,
    correlation: float | None = None,
) -> Scenes:
    """Open scenes.

    Args:
        root: a folder of cut-outs; None for OpenMoji.
        size: side of a scene, pixels.
        seed: seed of the scenes.
        limit: number of scenes in an epoch; None for the recipe's.
        recipe: a name in ``RECIPES``.
        object_centred: draw one large object a scene, which labels it, instead of the recipe's
            numbers and sizes.
        correlation: share, 0.5 to 1, of the training scenes of a ``_spurious`` recipe's twins that
            have the usual background; None for the recipe's.

    Raises:
        ValueError: unknown recipe, or a correlation that the recipe does not have.
    """
    scenes = find_recipe(recipe, object_centred)
    if correlation is not None:
        if not isinstance(scenes, SpuriousRecipe) or not 0.5 <= correlation <= 1:
            raise ValueError(
                f"data.options.correlation={correlation}, data.recipe={recipe}: choose 0.5 to 1, "
                "and a recipe that ends in _spurious"
            )
        scenes = replace(scenes, correlation=correlation)
    maker = SceneMaker(scenes, root=root)
    return Scenes(maker, size, seed, scenes.train_scenes if limit is None else limit)
