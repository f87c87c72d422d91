"""Layout: objects, places and background of a scene in relative units, pure in (seed, split,
index).  C classes, K backgrounds.

Combinations are held out from training, so that no validation scene can be a training scene:
classes i and j (from 0) are held out against each other if (i + j) % pair_period == pair_rest, and
class i against background i % K.  No training scene has such a combination; every validation scene
has at least one.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gestalt.data_modules.scenes.backgrounds import VARIANTS
from gestalt.data_modules.scenes.cutouts import CutOuts
from gestalt.data_modules.scenes.recipes import SceneRecipe, SpuriousRecipe
from gestalt.data_modules.scenes.twins import Twins

SPLITS = {"train": 0, "val": 1, "tune": 2}
"""Split name -> number in the random seed.  ``tune`` is for the choice of hyper-parameters, ``val``
for reporting.
"""

RASTER = 64
"""Side of the square on which overlap is measured, for every drawn size."""

_PLACE_TRIES = 12


class Placed(NamedTuple):
    """One object.  ``top`` and ``left`` are shares of the free space, [0, 1); ``scale`` is a share
    of the scene's side.
    """

    kind: int
    picture: int
    scale: float
    degrees: int
    flip: bool
    top: float
    left: float


class Layout(NamedTuple):
    """A scene before it is drawn; later objects cover earlier ones.

    Attributes:
        background: number in the recipe, from 0.
        variant: tile of that background.
        crop: (top, left) of the scene in the tile, in scene sides, [0, 1).
        mirrored: True if the background is flipped left to right.
        tint: gains of red, green and blue.
        objects: at least one.
    """

    background: int
    variant: int
    crop: tuple[float, float]
    mirrored: bool
    tint: tuple[float, float, float]
    objects: tuple[Placed, ...]


class HeldOut:
    """Combinations of a recipe that are held out from training."""

    def __init__(self, recipe: SceneRecipe) -> None:
        """Compute both tables."""
        numbers, backgrounds = np.arange(len(recipe.classes)), len(recipe.backgrounds)
        self.pairs = (numbers[:, None] + numbers) % recipe.pair_period == recipe.pair_rest
        """(C, C), True for two classes that are held out against each other."""
        self.backgrounds = numbers[:, None] % backgrounds == np.arange(backgrounds)
        """(C, K), True for a class that is held out against a background."""

    def shows(self, kinds: list[int], *, background: int) -> bool:
        """Return True if a scene has a held-out combination."""
        return bool(
            self.pairs[np.ix_(kinds, kinds)].any() or self.backgrounds[kinds, background].any()
        )


def _pick(rng: Generator, number: int) -> int:
    """Draw an integer in [0, ``number``)."""
    return int(rng.random() * number)


def choose(rng: Generator, items: Any) -> Any:
    """Draw one of some items."""
    return items[_pick(rng, len(items))]


@dataclass
class Planner:
    """Plans the scenes of one recipe.

    Attributes:
        recipe: what the scenes show.
        cutouts: for measuring overlap.
        pictures: numbers of the pictures of each class.
    """

    recipe: SceneRecipe
    cutouts: CutOuts
    pictures: list[list[int]]

    def __post_init__(self) -> None:
        self.held_out = HeldOut(self.recipe)
        if isinstance(self.recipe, SpuriousRecipe):
            self._twins = Twins(self.recipe)

    def plan(
        self, index: int, *, seed: int, split: str, shown: tuple[int, list[int]] | None = None
    ) -> Layout:
        """Plan a scene.

        Args:
            index: its number.
            seed: seed of the scenes.
            split: a name in ``SPLITS``.
            shown: background and classes of a scene, which is drawn from other random numbers than
                the scenes of all splits; None to draw them too.
        """
        stream = SPLITS[split] if shown is None else len(SPLITS) + SPLITS[split]
        for attempt in count():
            rng = np.random.default_rng([seed, stream, index, attempt])
            if shown is not None:
                background, kinds = shown
            elif split == "train":
                background, kinds = self._training_content(rng)
            else:
                background, kinds = self._validation_content(rng)
            objects = self.place(rng, kinds)
            free = shown is not None or split == "train"
            present = [placed.kind for placed in objects]
            if objects and (free or self.held_out.shows(present, background=background)):
                break
        crop = (rng.random(), rng.random())
        light = 0.88 + 0.2 * rng.random()
        red, green, blue = (light * (0.95 + 0.1 * rng.random()) for _ in range(3))
        variant, mirrored = _pick(rng, VARIANTS), rng.random() < 0.5
        return Layout(background, variant, crop, mirrored, (red, green, blue), objects)

    def _training_content(self, rng: Generator) -> tuple[int, list[int]]:
        """Draw a background and classes without held-out combinations."""
        possible = np.ones(len(self.recipe.classes), dtype=bool)
        if isinstance(self.recipe, SpuriousRecipe):
            if shown := self._twins.draw(self.recipe, rng):
                return shown
            possible[list(self._twins.kinds)] = False
        background = _pick(rng, len(self.recipe.backgrounds))
        possible &= ~self.held_out.backgrounds[:, background]
        kinds: list[int] = []
        for _ in range(1 + _pick(rng, self.recipe.max_objects)):
            kinds.append(self._next_kind(rng, kinds, possible=possible))
            possible = possible & ~self.held_out.pairs[kinds[-1]]
        return background, kinds

    def _validation_content(self, rng: Generator) -> tuple[int, list[int]]:
        """Draw a background and classes; the background or the second class is held out against the
        first class.
        """
        all_classes = np.ones(len(self.recipe.classes), dtype=bool)
        number = 1 + _pick(rng, self.recipe.max_objects)
        kinds = [self._next_kind(rng, [], possible=all_classes)]
        partners = self.held_out.pairs[kinds[0]]
        if number > 1 and partners.any() and rng.random() < 0.5:
            background = _pick(rng, len(self.recipe.backgrounds))
            kinds.append(self._next_kind(rng, [], possible=partners))
        else:
            background = int(np.flatnonzero(self.held_out.backgrounds[kinds[0]])[0])
        while len(kinds) < number:
            kinds.append(self._next_kind(rng, kinds, possible=all_classes))
        return background, kinds

    def _next_kind(self, rng: Generator, kinds: list[int], *, possible: NDArray[np.bool_]) -> int:
        """Draw a class: one that is already present, with the recipe's probability, or any possible
        one.
        """
        if kinds and (rng.random() < self.recipe.repeat or not possible.any()):
            return int(choose(rng, kinds))
        return int(choose(rng, np.flatnonzero(possible)))

    def place(self, rng: Generator, kinds: list[int]) -> tuple[Placed, ...]:
        """Draw picture, shape and place of every object; one that would cover an earlier one too
        much is left out.
        """
        owner = np.full((RASTER, RASTER), -1, dtype=np.int64)
        areas = visible = np.zeros(0, dtype=np.int64)
        objects: list[Placed] = []
        for kind in kinds:
            picture = choose(rng, self.pictures[kind])
            scale = choose(rng, self.recipe.scales)
            degrees = choose(rng, self.recipe.rotations)
            flip = rng.random() < 0.5
            side = max(1, round(scale * RASTER))
            whole = self.cutouts.draw(picture, side=side, degrees=degrees).mask
            mask = (whole[:, ::-1] if flip else whole)[:RASTER, :RASTER]
            for _ in range(_PLACE_TRIES):
                top, left = rng.random(), rng.random()
                row, column = corner(top, left, shape=whole.shape, size=RASTER)
                under = owner[row : row + mask.shape[0], column : column + mask.shape[1]]
                lost = np.bincount(under[mask] + 1, minlength=len(objects) + 1)[1:]
                if (visible - lost >= self.recipe.min_visible * areas).all():
                    under[mask] = len(objects)
                    visible = np.append(visible - lost, whole.sum())
                    areas = np.append(areas, whole.sum())
                    objects.append(Placed(kind, picture, scale, degrees, flip, top, left))
                    break
        return tuple(objects)


def corner(top: float, left: float, *, shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return the first row and column of a cut-out in pixels, wholly inside a square of ``size``
    pixels if it fits.
    """
    return int(top * (max(0, size - shape[0]) + 1)), int(left * (max(0, size - shape[1]) + 1))
