"""Captions of scenes, written like people's, who omit and reorder objects but never mention absent
ones.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.random import Generator

from gestalt.data_modules.scenes.recipes import SceneRecipe

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


def write_caption(recipe: SceneRecipe, background: int, kinds: list[int], rng: Generator) -> str:
    """Write a caption of a scene from the numbers of its background and of its objects' classes."""
    grammar, backdrop = recipe.grammar, recipe.backgrounds[background]
    counted = list(Counter(kinds).items())
    things = [counted[place] for place in np.argsort(rng.random(len(counted)))]
    form, bare = rng.random(), rng.random() < grammar.bare_noun

    def framed(words: str) -> str:
        """Return the words, alone or in a frame such as "a photo of"."""
        return words if rng.random() < grammar.plain else choose(rng, _FRAMES).format(words)

    def phrase(kind: int, number: int) -> str:
        """Return a noun phrase: "a dog" or bare "dog", "two dogs" or "dogs"."""
        noun = recipe.classes[kind]
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
