"""Scenes as a source: endless, embedded, pure in (seed, index) for the image and (seed, epoch, index) for the caption."""

import torch
from torch import Tensor

from data_modules.scenes.composition import SceneMaker
from data_modules.scenes.recipes import find_recipe


class Scenes:
    """Training scenes of a recipe at one size."""

    def __init__(self, maker: SceneMaker, *, size: int, seed: int, length: int) -> None:
        """Take the maker; ``length`` scenes are an epoch."""
        self.maker = maker
        self._size = size
        self._seed = seed
        self._length = length

    def __len__(self) -> int:
        """Number of scenes in an epoch."""
        return self._length

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """A scene, (3, S, S) uint8, and one of its captions."""
        layout = self.maker.plan(index, seed=self._seed, split="train")
        caption = self.maker.caption(layout, seed=self._seed, epoch=epoch, index=index)
        return torch.from_numpy(self.maker.image(layout, size=self._size)), caption


def open_here(*, root: str | None, size: int, seed: int, limit: int | None, recipe: str = "scenes_v1") -> Scenes:
    """Open training scenes.  ``root`` is a folder of cut-outs (None: OpenMoji's); ``limit`` is the number of scenes, any."""
    maker = SceneMaker(find_recipe(recipe), root=root)
    return Scenes(maker, size=size, seed=seed, length=maker.recipe.train_scenes if limit is None else limit)
