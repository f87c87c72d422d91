"""Composition: draws a layout as pixels and masks at any size.  S scene side in pixels."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.data_modules.scenes.backgrounds import paint_tile
from gestalt.data_modules.scenes.cutouts import CutOuts
from gestalt.data_modules.scenes.folder import read_folder
from gestalt.data_modules.scenes.grammar import Writer
from gestalt.data_modules.scenes.layout import Layout, Placed, Planner, corner
from gestalt.data_modules.scenes.recipes import SceneRecipe


class Scene(NamedTuple):
    """A scene with its ground truth.

    Attributes:
        image: (3, S, S) uint8.
        label: (S, S) uint8, 0 background, 1..C the recipe's classes in order.
        instance: (S, S) uint8, 0 background, 1..n the objects in pasting order.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    instance: NDArray[np.uint8]


class SceneMaker:
    """Plans, draws and describes the scenes of one recipe."""

    def __init__(self, recipe: SceneRecipe, *, root: str | None = None) -> None:
        """Take the recipe; with ``root``, classes and pictures come from a folder of cut-outs
        instead of OpenMoji.

        Raises:
            ValueError: the folder has too few usable cut-outs.
        """
        if root is not None:
            folder = read_folder(Path(root), limit=len(recipe.classes))
            recipe = replace(recipe, classes=folder.classes, pictures=f"folder:{folder.digest}")
        names = [picture for noun in recipe.classes for picture in noun.pictures]
        starts = np.cumsum([0, *(len(noun.pictures) for noun in recipe.classes)]).tolist()
        self.recipe = recipe
        self.cutouts = CutOuts(names, root=None if root is None else Path(root))
        self.planner = Planner(
            recipe, cutouts=self.cutouts, pictures=[list(range(a, b)) for a, b in pairwise(starts)]
        )
        self.writer = Writer(recipe)
        self._tiles: dict[tuple[int, int, int], NDArray[np.uint8]] = {}

    def plan(self, index: int, *, seed: int, split: str) -> Layout:
        """Return the layout of a scene, pure in (seed, split, index)."""
        return self.planner.plan(index, seed=seed, split=split)

    def caption(self, layout: Layout, *, seed: int, epoch: int, index: int) -> str:
        """Return a caption of a scene, pure in (seed, epoch, index)."""
        kinds = [placed.kind for placed in layout.objects]
        return self.writer.write(
            kinds, background=layout.background, rng=np.random.default_rng([seed, epoch, index, 7])
        )

    def image(self, layout: Layout, *, size: int) -> NDArray[np.uint8]:
        """Draw the pixels only.  Returns (3, S, S) uint8."""
        canvas = self._background(layout, size=size)
        for placed in layout.objects:
            self._paste(canvas, placed, size=size)
        return np.ascontiguousarray(canvas.astype(np.uint8).transpose(2, 0, 1))

    def scene(self, layout: Layout, *, size: int) -> Scene:
        """Draw pixels and masks."""
        label = np.zeros((size, size), dtype=np.uint8)
        instance = np.zeros((size, size), dtype=np.uint8)
        for number, placed in enumerate(layout.objects, start=1):
            mask, rows, columns = self.footprint(placed, size=size)
            label[rows, columns][mask] = placed.kind + 1
            instance[rows, columns][mask] = number
        return Scene(self.image(layout, size=size), label, instance)

    def footprint(self, placed: Placed, *, size: int) -> tuple[NDArray[np.bool_], slice, slice]:
        """Return the mask of an object, True for alpha of at least one half, and its rows and
        columns in the scene.
        """
        mask = self.cutouts.draw(
            placed.picture, side=_side(placed, size=size), degrees=placed.degrees
        ).mask
        rows, columns = _window(placed, shape=mask.shape, size=size)
        mask = mask[:, ::-1] if placed.flip else mask
        return mask[:size, :size], rows, columns

    def _background(self, layout: Layout, *, size: int) -> NDArray[np.uint16]:
        """Draw the tinted texture.  Returns (S, S, 3) uint16 in [0, 255]."""
        key = (layout.background, layout.variant, size)
        if key not in self._tiles:
            self._tiles[key] = paint_tile(
                self.recipe.backgrounds[layout.background].name, layout.variant, size=size
            )
        row, column = (int(share * size) for share in layout.crop)
        patch = self._tiles[key][row : row + size, column : column + size]
        patch = patch[:, ::-1] if layout.mirrored else patch
        # 255 * 128 * 2 fits in 16 bits
        gain = np.array([round(128 * gain) for gain in layout.tint], dtype=np.uint16)
        tinted: NDArray[np.uint16] = np.minimum((patch * gain) >> 7, 255)
        return tinted

    def _paste(self, canvas: NDArray[np.uint16], placed: Placed, *, size: int) -> None:
        """Blend one object over the canvas in integer arithmetic, so that pixels are equal on all
        machines.
        """
        drawn = self.cutouts.draw(
            placed.picture, side=_side(placed, size=size), degrees=placed.degrees
        )
        rows, columns = _window(placed, shape=drawn.mask.shape, size=size)
        step = slice(None, None, -1 if placed.flip else 1)
        under = canvas[rows, columns]
        under *= drawn.see_through[:, step][:size, :size]
        under += 127
        under //= 255
        under += drawn.colour[:, step][:size, :size]


def _side(placed: Placed, *, size: int) -> int:
    """Return the longest side of the picture before rotation, in pixels."""
    return max(1, round(placed.scale * size))


def _window(placed: Placed, *, shape: tuple[int, ...], size: int) -> tuple[slice, slice]:
    """Return the rows and columns of an object in the scene."""
    row, column = corner(placed.top, placed.left, shape=shape, size=size)
    return slice(row, min(size, row + shape[0])), slice(column, min(size, column + shape[1]))
