"""Scenes: layouts, drawn as pixels and masks at any size, and captions of them.  C classes, K
backgrounds, S scene side in pixels.

A layout has objects, places and background in relative units, pure in (seed, split, index).
Combinations are held out from training, so that no validation scene can be a training scene:
classes i and j (from 0) are held out against each other if (i + j) % pair_period == pair_rest, and
class i against background i % K.  No training scene has such a combination; every validation scene
has at least one.

Twins are two classes, each with a background on which it usually stands, as a counterpart of
Waterbirds.  ``class_label`` and ``place`` are 0 or 1; if they are equal, the scene shows the usual
combination.

Captions are written like people's, who omit and reorder objects but never mention absent ones.
"""

from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gestalt.data_modules.scenes.backgrounds import VARIANTS, paint_tile
from gestalt.data_modules.scenes.cutouts import CutOut, open_cutouts, read_folder
from gestalt.data_modules.scenes.recipes import SceneRecipe, SpuriousRecipe
from gestalt.support.arrays import Pixels

NAMES = ("cow", "bird")
"""Class names, in order of class label: counterparts of Waterbirds' landbirds and waterbirds."""

PLACES = ("grass", "water")
"""Background names, in order of place.  No recipe holds these classes out against these
backgrounds.
"""


def find_twins(recipe: SceneRecipe) -> tuple[list[int], list[int]]:
    """Return the numbers of the twins among the recipe's classes, and those of their backgrounds.

    Raises:
        ValueError: the recipe lacks one of the classes.
    """
    known = [noun.name for noun in recipe.classes]
    for name in NAMES:
        if name not in known:
            raise ValueError(
                f"scenes recipe {recipe.name!r} has no class {name!r}, which scenes_waterbirds "
                f"needs; it has {', '.join(known)}"
            )
    grounds = [backdrop.name for backdrop in recipe.backgrounds]
    return [known.index(name) for name in NAMES], [grounds.index(name) for name in PLACES]


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
    picture: str
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
    tint: tuple[float, ...]
    objects: tuple[Placed, ...]


def corner(top: float, left: float, *, shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return the first row and column of a cut-out in pixels, wholly inside a square of ``size``
    pixels if it fits.
    """
    return int(top * (max(0, size - shape[0]) + 1)), int(left * (max(0, size - shape[1]) + 1))


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


_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_CONSONANT_SOUNDS = ("uni", "use", "eu", "one", "ukulele")
_FRAMES = (
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "{} in a picture",
)


def pick(rng: Generator, number: int) -> int:
    """Draw an integer in [0, ``number``)."""
    return int(rng.random() * number)


def choose(rng: Generator, items: Any) -> Any:
    """Draw one of some items."""
    return items[pick(rng, len(items))]


def with_article(noun: str) -> str:
    """Prefix a noun with "a" or "an" by the sound of its first letters."""
    vowel = noun[0] in "aeiou" and not noun.startswith(_CONSONANT_SOUNDS)
    return f"{'an' if vowel else 'a'} {noun}"


class SceneMaker:
    """Plans, draws and describes the scenes of one recipe.

    Attributes:
        recipe: what the scenes show.
        cutouts: the pictures, also for measuring overlap.
        held_pairs: (C, C), True for two classes that are held out against each other.
        held_backgrounds: (C, K), True for a class that is held out against a background.
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
        self.recipe = recipe
        self.cutouts = open_cutouts(None if root is None else Path(root))
        kinds, backgrounds = np.arange(len(recipe.classes)), len(recipe.backgrounds)
        self.held_pairs = (kinds[:, None] + kinds) % recipe.pair_period == recipe.pair_rest
        self.held_backgrounds = kinds[:, None] % backgrounds == np.arange(backgrounds)
        if isinstance(recipe, SpuriousRecipe):
            self._twins = find_twins(recipe)

    def shows_held_out(self, kinds: list[int], background: int) -> bool:
        """Return True if a scene has a combination that is held out from training."""
        return bool(
            self.held_pairs[np.ix_(kinds, kinds)].any()
            or self.held_backgrounds[kinds, background].any()
        )

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
        free = shown is not None or split == "train"
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
            present = [placed.kind for placed in objects]
            if objects and (free or self.shows_held_out(present, background)):
                break
        crop = (rng.random(), rng.random())
        light = 0.88 + 0.2 * rng.random()
        tint = tuple(light * (0.95 + 0.1 * rng.random()) for _ in range(3))
        variant, mirrored = pick(rng, VARIANTS), rng.random() < 0.5
        return Layout(background, variant, crop, mirrored, tint, objects)

    def _training_content(self, rng: Generator) -> tuple[int, list[int]]:
        """Draw a background and classes: without held-out combinations, or a twin, usually on its
        background.
        """
        possible = np.ones(len(self.recipe.classes), dtype=bool)
        if isinstance(self.recipe, SpuriousRecipe):
            twins, grounds = self._twins
            if rng.random() < self.recipe.twin_share:
                shown = int(rng.random() < 0.5)
                usual = rng.random() < self.recipe.correlation
                return grounds[shown if usual else 1 - shown], [twins[shown]]
            possible[twins] = False
        background = pick(rng, len(self.recipe.backgrounds))
        possible &= ~self.held_backgrounds[:, background]
        kinds: list[int] = []
        for _ in range(1 + pick(rng, self.recipe.max_objects)):
            kinds.append(self._next_kind(rng, kinds, possible=possible))
            possible = possible & ~self.held_pairs[kinds[-1]]
        return background, kinds

    def _validation_content(self, rng: Generator) -> tuple[int, list[int]]:
        """Draw a background and classes; the background or the second class is held out against the
        first class.
        """
        all_classes = np.ones(len(self.recipe.classes), dtype=bool)
        number = 1 + pick(rng, self.recipe.max_objects)
        kinds = [self._next_kind(rng, [], possible=all_classes)]
        partners = self.held_pairs[kinds[0]]
        if number > 1 and partners.any() and rng.random() < 0.5:
            background = pick(rng, len(self.recipe.backgrounds))
            kinds.append(self._next_kind(rng, [], possible=partners))
        else:
            background = int(np.flatnonzero(self.held_backgrounds[kinds[0]])[0])
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
            picture = choose(rng, self.recipe.classes[kind].pictures)
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

    def image(self, layout: Layout, size: int) -> Pixels:
        """Draw the pixels only, the objects on a tinted texture, blended in integer arithmetic, so
        that they are equal on all machines.  Returns (3, S, S) uint8.
        """
        name = self.recipe.backgrounds[layout.background].name
        row, column = (int(share * size) for share in layout.crop)
        patch = paint_tile(name, layout.variant, size)[row : row + size, column : column + size]
        patch = patch[:, ::-1] if layout.mirrored else patch
        # 255 * 128 * 2 fits in 16 bits
        gain = np.array([round(128 * gain) for gain in layout.tint], dtype=np.uint16)
        canvas = np.minimum((patch * gain) >> 7, 255)
        for placed in layout.objects:
            drawn, rows, columns = self.cut_out(placed, size)
            under = canvas[rows, columns]
            under *= drawn.see_through
            under += 127
            under //= 255
            under += drawn.colour
        return np.ascontiguousarray(canvas.astype(np.uint8).transpose(2, 0, 1))

    def scene(self, layout: Layout, size: int) -> Scene:
        """Draw pixels and masks."""
        label, instance = np.zeros((2, size, size), dtype=np.uint8)
        for number, placed in enumerate(layout.objects, start=1):
            drawn, rows, columns = self.cut_out(placed, size)
            label[rows, columns][drawn.mask] = placed.kind + 1
            instance[rows, columns][drawn.mask] = number
        return Scene(self.image(layout, size=size), label, instance)

    def cut_out(self, placed: Placed, size: int) -> tuple[CutOut, slice, slice]:
        """Draw an object, cropped to the scene.  Returns its rows and columns in the scene, too."""
        side = max(1, round(placed.scale * size))
        drawn = self.cutouts.draw(placed.picture, side=side, degrees=placed.degrees)
        height, width = drawn.mask.shape
        row, column = corner(placed.top, placed.left, shape=(height, width), size=size)
        step = -1 if placed.flip else 1
        cropped = CutOut._make(part[:, ::step][:size, :size] for part in drawn)
        return cropped, slice(row, row + height), slice(column, column + width)

    def caption(self, layout: Layout, *, seed: int, epoch: int, index: int) -> str:
        """Write a caption of a scene, pure in (seed, epoch, index)."""
        rng = np.random.default_rng([seed, epoch, index, 7])
        grammar, backdrop = self.recipe.grammar, self.recipe.backgrounds[layout.background]
        counted = list(Counter(placed.kind for placed in layout.objects).items())
        things = [counted[place] for place in np.argsort(rng.random(len(counted)))]
        form, bare = rng.random(), rng.random() < grammar.bare_noun

        def framed(words: str) -> str:
            """Return the words, alone or in a frame such as "a photo of"."""
            return words if rng.random() < grammar.plain else choose(rng, _FRAMES).format(words)

        def phrase(kind: int, number: int) -> str:
            """Return a noun phrase: "a dog" or bare "dog", "two dogs" or "dogs"."""
            noun = self.recipe.classes[kind]
            if number == 1:
                return noun.name if bare else with_article(noun.name)
            if rng.random() < grammar.say_number:
                return f"{_NUMBERS[number]} {noun.plural}"
            return noun.plural

        if form < grammar.background_only:
            return framed(backdrop.noun)
        if form < grammar.background_only + grammar.single_noun:
            return framed(phrase(*things[0]))
        kept = [thing for thing in things if rng.random() >= grammar.drop_object] or things[:1]
        *others, last = (phrase(*thing) for thing in kept)
        named = f"{', '.join(others)} and {last}" if others else last
        if rng.random() >= grammar.name_background:
            return framed(named)
        where = choose(rng, backdrop.places)
        form = rng.random()
        if form < 0.15:
            return f"{backdrop.noun} with {named}"
        if form < 0.25:
            return f"{where}, {named}"
        return framed(f"{named} {where}")
