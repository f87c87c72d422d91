"""Scenes as a source: endless, embedded, pure in (seed, index) for the image and (seed, epoch, index) for the caption."""

import torch
from torch import Tensor

from data_modules.scenes.composition import SceneMaker
from data_modules.scenes.layout import SPLITS
from data_modules.scenes.recipes import find_recipe, object_centred_recipe


class Scenes:
    """Scenes of a recipe at one size.

    Attributes:
        classes: the recipe's, where every scene shows exactly one object, whose class is then the scene's label; None elsewhere.
    """

    def __init__(self, maker: SceneMaker, *, size: int, seed: int, length: int, split: str = "train") -> None:
        """Take the maker; ``length`` scenes are an epoch."""
        self.maker = maker
        self.classes = tuple(noun.name for noun in maker.recipe.classes) if maker.recipe.max_objects == 1 else None
        self._size = size
        self._seed = seed
        self._length = length
        self._split = split

    def __len__(self) -> int:
        """Number of scenes in an epoch."""
        return self._length

    def blocks(self) -> list[int]:
        """One block: a sample is as quickly read as its neighbour."""
        return [len(self)]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the recipe and its pictures."""
        return self.maker.recipe.digest()

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """A scene, (3, S, S) uint8, and one of its captions."""
        layout = self.maker.plan(index, seed=self._seed, split=self._split)
        caption = self.maker.caption(layout, seed=self._seed, epoch=epoch, index=index)
        return torch.from_numpy(self.maker.image(layout, size=self._size)), caption

    def label(self, index: int) -> int:
        """The class of the one object."""
        assert self.classes is not None
        (placed,) = self.maker.plan(index, seed=self._seed, split=self._split).objects
        return placed.kind

    def class_map(self, index: int) -> Tensor:
        """What is where in a scene, (S, S) int64: 0 background, 1 to C the recipe's classes in order."""
        layout = self.maker.plan(index, seed=self._seed, split=self._split)
        return torch.from_numpy(self.maker.scene(layout, size=self._size).label).long()


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    recipe: str = "scenes_v1",
    split: str = "train",
    object_centred: bool = False,
) -> Scenes:
    """Open scenes.

    Args:
        root: a folder of cut-outs; None for OpenMoji's.
        size: side of a scene, pixels.
        seed: of the training scenes; the other splits have the recipe's own.
        limit: number of scenes, any; None for the recipe's.
        recipe: a name in ``RECIPES``.
        split: ``train``; or ``val`` or ``tune``, whose scenes all show a combination that training never does.
        object_centred: one large object a scene, which gives labels, in place of the recipe's own numbers and sizes.

    Raises:
        ValueError: unknown recipe or split.
    """
    if split not in SPLITS:
        raise ValueError(f"scenes split {split!r} is unknown; known: {', '.join(SPLITS)}")
    made = object_centred_recipe(find_recipe(recipe)) if object_centred else find_recipe(recipe)
    maker = SceneMaker(made, root=root)
    training = split == "train"
    length = made.train_scenes if training else made.validation_scenes
    return Scenes(maker, size=size, seed=seed if training else made.validation_seed, length=length if limit is None else limit, split=split)
