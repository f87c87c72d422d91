"""Composition: draws a layout as pixels and masks at any size.  S scene side in pixels."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.data_modules.scenes.backgrounds import paint_tile
from gestalt.data_modules.scenes.cutouts import CutOut, CutOuts
from gestalt.data_modules.scenes.folder import read_folder
from gestalt.data_modules.scenes.grammar import Writer
from gestalt.data_modules.scenes.layout import Layout, Placed, Planner, corner
from gestalt.data_modules.scenes.recipes import SceneRecipe
from gestalt.support.arrays import Pixels


class Scene(NamedTuple):
    """A scene with its ground truth.

    Attributes:
        image: (3, S, S) uint8.
        label: (S, S) uint8, 0 background, 1..C the recipe's classes in order.
        instance: (S, S) uint8, 0 background, 1..n the objects in pasting order.
    """

    image: Pixels
    label: Pixels
    instance: Pixels


class SceneMaker(Planner):
    """Plans, draws and describes the scenes of one recipe.

    Attributes:
        caption: as ``Writer.caption``.
    """

    def __init__(self, recipe: SceneRecipe, *, root: str | None = None) -> None:
        """Take the recipe; with ``root``, classes and pictures come from a folder of cut-outs
        instead of OpenMoji.

        Raises:
            ValueError: the folder has too few usable cut-outs.
        """
        if root is not None:
            classes, digest = read_folder(Path(root), limit=len(recipe.classes))
            recipe = replace(recipe, classes=classes, pictures=f"folder:{digest}")
        names = [picture for noun in recipe.classes for picture in noun.pictures]
        numbers = count()
        super().__init__(
            recipe,
            cutouts=CutOuts(names, root=None if root is None else Path(root)),
            pictures=[[next(numbers) for _ in noun.pictures] for noun in recipe.classes],
        )
        self.caption = Writer(recipe).caption

    def image(self, layout: Layout, *, size: int) -> Pixels:
        """Draw the pixels only, blended in integer arithmetic, so that they are equal on all
        machines.  Returns (3, S, S) uint8.
        """
        canvas = self._background(layout, size=size)
        for placed in layout.objects:
            drawn, rows, columns = self.cut_out(placed, size=size)
            under = canvas[rows, columns]
            under *= drawn.see_through
            under += 127
            under //= 255
            under += drawn.colour
        return np.ascontiguousarray(canvas.astype(np.uint8).transpose(2, 0, 1))

    def scene(self, layout: Layout, *, size: int) -> Scene:
        """Draw pixels and masks."""
        label, instance = np.zeros((2, size, size), dtype=np.uint8)
        for number, placed in enumerate(layout.objects, start=1):
            drawn, rows, columns = self.cut_out(placed, size=size)
            label[rows, columns][drawn.mask] = placed.kind + 1
            instance[rows, columns][drawn.mask] = number
        return Scene(self.image(layout, size=size), label, instance)

    def cut_out(self, placed: Placed, *, size: int) -> tuple[CutOut, slice, slice]:
        """Draw an object, cropped to the scene.  Returns its rows and columns in the scene, too."""
        side = max(1, round(placed.scale * size))
        drawn = self.cutouts.draw(placed.picture, side=side, degrees=placed.degrees)
        height, width = drawn.mask.shape
        row, column = corner(placed.top, placed.left, shape=(height, width), size=size)
        step = -1 if placed.flip else 1
        cropped = CutOut._make(part[:, ::step][:size, :size] for part in drawn)
        return cropped, slice(row, row + height), slice(column, column + width)

    def _background(self, layout: Layout, *, size: int) -> NDArray[np.uint16]:
        """Draw the tinted texture.  Returns (S, S, 3) uint16 in [0, 255]."""
        name = self.recipe.backgrounds[layout.background].name
        row, column = (int(share * size) for share in layout.crop)
        patch = paint_tile(name, layout.variant, size=size)[
            row : row + size, column : column + size
        ]
        patch = patch[:, ::-1] if layout.mirrored else patch
        # 255 * 128 * 2 fits in 16 bits
        gain = np.array([round(128 * gain) for gain in layout.tint], dtype=np.uint16)
        return np.minimum((patch * gain) >> 7, 255)
